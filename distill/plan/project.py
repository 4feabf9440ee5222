"""Open a plan's warehouse, with stored replies found under any spelling of a server's address."""

from __future__ import annotations

from distill.plan.plan import Plan
from warehouse.db.store import Store


def open_store(plan: Plan) -> Store:
    """Open the plan's warehouse.

    A reply is stored under the identity of its model, which includes the address.
    `http://localhost:8000/v1` and `http://127.0.0.1:8000/v1/` are one server: the plan's models
    take the stored spelling, so that no reply is paid for again.
    """
    store = Store(plan.warehouse_path)
    models = [plan.teacher, plan.judge, *plan.evaluate.endpoints.values()]
    models = [model for model in models if hasattr(model, "adopt_identity")]
    if models:
        identities = store.teachers()
        for model in models:
            model.adopt_identity(identities)
    return store
