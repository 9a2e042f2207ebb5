"""Configuration of CMA, the cross-modal attention policy of VLN-CE (arXiv 2004.02857).

Apart from the model's file so that `import internnav_hf` can register it without importing
modelling code.
"""

from .vln_config import RecurrentVLNConfig


class CMAConfig(RecurrentVLNConfig):
    """CMA: the fields of `RecurrentVLNConfig`. Attention is half as wide as `hidden_size`."""

    model_type = "internnav_cma"

    def _check(self) -> None:
        super()._check()
        if self.hidden_size % 2:
            raise ValueError(f"CMAConfig: hidden_size: found {self.hidden_size}, expected even.")
