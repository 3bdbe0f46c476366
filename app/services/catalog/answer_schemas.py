"""The check of output schemas before they are stored with an agent or a run."""

from itertools import islice

from app.errors import MAX_PROBLEMS, InvalidInput
from app.kit.check_thread import in_check_thread
from app.kit.json_limits import JsonObject
from app.kit.strict_json import references_in
from app.services.tools.schemas import InvalidSchema, compile_output_schema

FIELD = "outputSchema"


async def check_output_schema(schema: JsonObject | None) -> None:
    """Check that a value is a JSON Schema within the limits, without references to other documents.

    Raises:
        InvalidInput: it is not.
    """
    if schema is None:
        return
    try:
        await in_check_thread(compile_output_schema, schema)
    except InvalidSchema as error:
        raise InvalidInput.of_field(FIELD, str(error)) from None
    if problems := list(islice(references_in(schema, (None, FIELD)), MAX_PROBLEMS)):
        raise InvalidInput.of_fields(problems)
