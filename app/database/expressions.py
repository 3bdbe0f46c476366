"""MongoDB expressions that treat a damaged field as unset, so that it does not block other documents."""

from app.database.connection import Raw


def number_in(field: str, otherwise: int = 0) -> Raw:
    """Return an expression for a number field."""
    return {"$cond": [{"$isNumber": field}, field, otherwise]}


def array_in(field: str) -> Raw:
    """Return an expression for an array field, by default an empty array."""
    return {"$cond": [{"$isArray": field}, field, []]}


def relation_in(field: str) -> Raw:
    """Return an expression for a relation, by default `null`."""
    return {"$cond": [{"$in": [{"$type": field}, ["objectId", "string"]]}, field, None]}
