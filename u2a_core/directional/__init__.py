"""⟨∇ℓ_k, v⟩ for all samples: the directional derivatives of all per-sample losses along one v.

`slopes` contracts them in one batched pass; `exact_slopes` is the per-sample loop: the checker,
and the automatic fallback where a parameter is used outside its own module.
"""

from u2a_core.directional.passes import exact_slopes, identity_error, slopes, slopes_along

__all__ = ["exact_slopes", "identity_error", "slopes", "slopes_along"]
