"""The interpreter agrees with the real one on plain data and stops at everything else."""

from __future__ import annotations

import collections
import datetime
import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from logsnr.data.unpickle import read_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
SHARED = ["the same list", b"bytes\xff\x00", ""]
PLAIN = {
    "numbers": [0, -1, 255, 256, 65536, 2**40, -(2**70), 1.5, True, False, None],
    "texts": ["", "ascii", "Zeichen ≤ 漢字\n", b"", b"\x80\xff"],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[]], {}, {1: {2: 3}}],
    ("key", 2): [SHARED, SHARED],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_is_read_as_by_the_real_interpreter(protocol: int) -> None:
    assert read_pickle(io.BytesIO(pickle.dumps(PLAIN, protocol))) == PLAIN


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "<f4", ">f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_by_the_real_interpreter(protocol: int, dtype: str, order: str) -> None:
    array = np.asarray(np.arange(24).reshape(2, 3, 4), dtype=dtype, order=order)  # type: ignore[call-overload]
    for original in (array, array[:, :0], array[1, ::2]):
        first, second = read_pickle(io.BytesIO(pickle.dumps([original, (original, dtype)], protocol)))
        assert np.array_equal(first, original)
        assert first.dtype == original.dtype
        assert first is second[0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        os.system,
        Path,
        datetime.date(2020, 1, 1),
        {1, 2},
        1j,
        collections.OrderedDict(a=1),
        np.array([{}]),
        np.array(["a"]),
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_everything_else_is_refused_by_name(protocol: int, value: object) -> None:
    with pytest.raises(ValueError, match=r"refused|which is not data") as caught:
        read_pickle(io.BytesIO(pickle.dumps({"value": value}, protocol)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "the pickle calls os.system, which is refused"),
        (b"(S'true'\nios\nsystem\n.", "the pickle instruction INST is refused"),
        (b"cbuiltins\neval\nS'1'\n\x85R.", "builtins.eval, which is refused"),
        (b"cnumpy\ndtype\nS'O8'\n\x85R.", "dtype 'O8', which is refused"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93)\x81.", "instruction NEWOBJ is refused"),
        (b"Pid\n.", "instruction PERSID is refused"),
        (b"\x82\x01.", "instruction EXT1 is refused"),
        (b"cos\nsystem\n.", "holds a name"),
        (b"", "damaged"),
        (b"}", "damaged"),
        (b"t.", "damaged"),
        (b"h\x05.", "damaged"),
        (b"K\x01K\x02b.", "damaged"),
        (b"\xff", "damaged"),
        (b"]q\x00h\x00a.", "damaged"),
        (b"N0.", "instruction POP is refused"),
    ],
)
def test_hand_made_programs_are_refused_in_one_line(program: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_pickle(io.BytesIO(program))
    assert "\n" not in str(caught.value)


def outcome(program: bytes) -> str:
    try:
        return type(read_pickle(io.BytesIO(program))).__name__
    except ValueError as error:
        return str(error)


def test_damage_at_any_byte_is_one_line_or_plain_data() -> None:
    whole = pickle.dumps({"data": np.zeros((2, 3)), "labels": [1, 2], "name": "x"}, 2)
    assert outcome(whole) == "dict"
    for place in range(len(whole)):
        for flip in (0x01, 0x20, 0x80, 0xFF):
            changed = bytearray(whole)
            changed[place] ^= flip
            assert "\n" not in outcome(bytes(changed))
