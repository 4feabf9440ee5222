"""Open the warehouse of a plan, and find its servers' replies under any spelling of their address."""

from __future__ import annotations

from distill.plan.plan import Plan
from warehouse.db.store import Store


def open_store(plan: Plan) -> Store:
    """The plan's warehouse.

    A reply is kept under the identity of the model that gave it, its address included.
    `http://localhost:8000/v1` and `http://127.0.0.1:8000/v1/` are one server: models of the plan
    take the spelling that the warehouse knows, so that nothing is paid for again.
    """
    store = Store(plan.warehouse_path)
    models = [plan.teacher, plan.judge, *plan.evaluate.endpoints.values()]
    models = [model for model in models if hasattr(model, "adopt_identity")]
    if models:
        known = store.teachers()
        for model in models:
            model.adopt_identity(known)
    return store
