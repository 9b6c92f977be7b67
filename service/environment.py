"""What processes that handle foreign bytes inherit: no settings of ours, and nothing that looks like a credential.

Decoders, ingestion and trainings need no database, no broker, no store and no key; whoever takes one of them over
should not find the way to the others in its environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

COUNTS = "PROMETHEUS_MULTIPROC_DIR"
"""Where processes count together; prometheus_client reads it when it is imported."""
PRIVATE = re.compile(
    r"(NIDIM_|PROMETHEUS_|AWS_|PG|AZURE_|GOOGLE_|GCP_|OTEL_).*|.*(SECRET|PASSW|TOKEN|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY).*",
    re.IGNORECASE,
)


def without_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """``env`` without what is nobody else's business."""
    return {name: value for name, value in env.items() if not PRIVATE.fullmatch(name)}
