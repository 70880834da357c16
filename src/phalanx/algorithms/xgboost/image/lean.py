"""Import it before XGBoost, which loads scikit-learn where that is installed, for interfaces of which the algorithm uses none,
and for longer than all else takes. Scripts, in processes of their own, have it."""

from __future__ import annotations

import sys

sys.modules["sklearn"] = None  # type: ignore[assignment]
