"""The gallery: the papers' claims, shown. One claim a file: data, check, picture.

A demonstration is a module `gNN_name.py` whose docstring states a claim and where it is made, with three functions and
a record of them, `EXHIBIT`:

    measure(setting) -> found     the data and what is done with them; nothing random but through `setting.seed`
    checks(found)    -> checks    figures beside their bars; each can fail
    draw(found, figure)           a picture made to be looked at

They use the library as anybody would: `import logsnr`, and names of its rooms. What a common note gets wrong is shown
being wrong beside what is right. A verdict is "holds" or "not confirmed"; both are printed with their figures.
"""

from logsnr.gallery.checks import Check as Check
from logsnr.gallery.checks import above as above
from logsnr.gallery.checks import below as below
from logsnr.gallery.checks import between as between
from logsnr.gallery.checks import mean as mean
from logsnr.gallery.checks import near as near
from logsnr.gallery.checks import standard_error as standard_error
from logsnr.gallery.exhibit import Exhibit as Exhibit
from logsnr.gallery.exhibit import Setting as Setting
