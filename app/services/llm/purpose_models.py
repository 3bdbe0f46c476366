"""The model of each call by its purpose: the operator's choice, else the model of the agent or the run.

An operator's choice applies to every call of its purpose. If its model fails, the call fails like any other: the
`fallbacks` of MODELS_CONFIG apply to it, and nothing else replaces it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.services.llm.calls import RunPurpose


@dataclass(frozen=True)
class PurposeModels:
    """Chooses models by purpose; all names are configured ones.

    `judges` are the usable models that judge if none is chosen, the preferred one first.
    """

    chosen: Mapping[RunPurpose, str] = field(default_factory=dict[RunPurpose, str])
    judges: tuple[str, ...] = ()
    record_name: Callable[[str], str] = lambda name: name

    def model_for(self, purpose: RunPurpose, own: str) -> str:
        """Return the model of a call whose agent or run would use `own`."""
        return self.chosen.get(purpose, own)

    def judge_of(self, judged: str) -> str:
        """Return the model that judges the work of `judged`: if possible, not that model itself."""
        if RunPurpose.JUDGE in self.chosen:
            return self.chosen[RunPurpose.JUDGE]
        name = self.record_name(judged)
        return next((model for model in self.judges if self.record_name(model) != name), judged)


AGENTS_OWN = PurposeModels()
"""Every call uses the model of its agent or run."""
