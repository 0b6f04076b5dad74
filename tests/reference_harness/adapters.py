"""One adapter a file of recorded numbers: it reads the inputs, asks the library, and compares.

What is particular to an original program (its index sets, what it does at the ends of its tables) is written here and
nowhere else; the formulas under test are only ever the library's.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from . import (
    averages,
    ddim,
    edm,
    embedding,
    flows,
    kdiffusion,
    ncsn,
    pesser,
    resampler,
    respace,
    reverse,
    sampling,
    schedules,
    score_sde,
    score_sde_sampling,
    training,
    truths,
    variational,
    vdm,
)
from .reference import Reference

Adapter = Callable[[Reference], None]

ADAPTERS: dict[str, Adapter] = {
    r"iddpm_schedules": schedules.iddpm,
    r"ddim_schedules": schedules.ddim,
    r"ddpm_tf_schedules": schedules.ddpm,
    r"iddpm_respace": respace.respace,
    r"iddpm_q_([a-z]+)\d+": variational.forward_process,
    r"iddpm_losses": variational.losses,
    r"iddpm_calc_bpd": variational.calc_bpd,
    r"iddpm_training_losses": training.training_losses,
    r"iddpm_timestep_embedding": embedding.timestep_embedding,
    r"iddpm_p_mean_variance": reverse.p_mean_variance,
    r"iddpm_sampling": sampling.iddpm,
    r"iddpm_sampling_respaced": sampling.iddpm_respaced,
    r"ddim_sampling": ddim.sampling,
    r"ddim_loss": ddim.loss,
    r"ddim_ema": averages.ddim_ema,
    r"iddpm_resampler": resampler.resampler,
    r"iddpm_ema": averages.iddpm_ema,
    r"ddpm_pesser": pesser.pesser,
    r"vdm_gamma": vdm.gamma,
    r"vdm_encdec": vdm.encdec,
    r"vdm_features": vdm.features,
    r"vdm_losses": vdm.losses,
    r"vdm_sample": vdm.sample,
    r"vdm_score_unet": vdm.score_unet,
    r"ncsn_sliced_loss": ncsn.sliced_loss,
    r"ssm_losses": ncsn.ssm_losses,
    r"ncsnv2_dsm_loss": ncsn.dsm_loss,
    r"ncsnv2_langevin": ncsn.langevin,
    r"ncsnv2_inpainting": ncsn.inpainting,
    r"ncsnv2_sigmas": ncsn.sigmas,
    r"sde_(vp|ve|subvp)_functions": score_sde.functions,
    r"sde_(vp|ve|subvp)_losses": score_sde.losses,
    r"sde_(vp|ve|subvp)_pc_sampler": score_sde_sampling.predictor_corrector,
    r"sde_(vp|ve|subvp)_ode_likelihood": score_sde_sampling.flow,
    r"sde_ema_optim": score_sde.averages,
    r"edm_precond": edm.precond,
    r"edm_losses": edm.losses,
    r"edm_sampler": edm.sampler,
    r"edm_ablation_sampler": edm.ablation,
    r"kdiff_denoisers": kdiffusion.denoisers,
    r"kdiff_schedules": kdiffusion.schedules,
    r"kdiff_samplers": kdiffusion.samplers,
    r"kdiff_dpm_fast_adaptive": kdiffusion.fast_adaptive,
    r"kdiff_log_likelihood": flows.k_diffusion,
    r"truth_mix\d+": truths.mix,
    r"truth_pf_ode": truths.pf_ode,
    r"truth_ddpm_single_gaussian": truths.ddpm_single_gaussian,
    r"truth_vdm_single_gaussian": truths.vdm_single_gaussian,
}


def adapter_for(name: str) -> Adapter | None:
    """The adapter of a file, by its name without .npz."""
    return next((adapter for pattern, adapter in ADAPTERS.items() if re.fullmatch(pattern, name)), None)
