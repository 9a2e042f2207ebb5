"""Arguments of a made-up recipe."""

from dataclasses import dataclass, field


@dataclass
class Data:
    data_root: str = field(metadata={"help": "where"})
    sizes: list[int] = field(default_factory=lambda: [384, 384])
    rate: float = 2e-5
    limit: float | None = 1.0
    augment: bool = True
    model_config: str | None = None
