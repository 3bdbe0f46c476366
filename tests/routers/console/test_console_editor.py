"""The code editor: numbers, indentation, brackets, and the line of an error."""

import re

import pytest
from playwright.async_api import expect

from tests.fixtures.browser import Visit


@pytest.fixture
async def editor(console: Visit) -> Visit:
    """The form of a new tool, with an empty function."""
    await console.open("/catalog/tools/new")
    await console.page.get_by_label("executeFunction").fill("")
    return console


async def test_code_is_indented_as_it_is_written_and_can_be_undone(editor: Visit) -> None:
    code, keys = editor.page.get_by_label("executeFunction"), editor.page.keyboard
    await code.focus()
    await keys.type("(input) => {\nconst a = [1];\nif (a) {\nreturn a;\n}\n}")

    written = "(input) => {\n  const a = [1];\n  if (a) {\n    return a;\n  }\n}"
    await expect(code).to_have_value(written)
    numbers = editor.page.locator(".field", has=code).locator(".editor-lines span")
    await expect(numbers).to_have_text(["1", "2", "3", "4", "5", "6"])

    await keys.press("ControlOrMeta+a")
    await keys.press("Tab")
    await expect(code).to_have_value("\n".join(f"  {line}" for line in written.split("\n")))
    await keys.press("Shift+Tab")
    await expect(code).to_have_value(written)
    await keys.press("ControlOrMeta+z")
    await expect(code).to_have_value("\n".join(f"  {line}" for line in written.split("\n")))


async def test_the_bracket_that_belongs_to_the_one_at_the_caret_is_marked(editor: Visit) -> None:
    code, keys = editor.page.get_by_label("executeFunction"), editor.page.keyboard
    await code.fill('(a) => { return ["}", /[}]/, `}`]; }')
    await code.focus()
    await keys.press("End")
    field = editor.page.locator(".field", has=code)
    await expect(field.locator(".paired")).to_have_text(["{", "}"])
    await keys.press("Home")
    await expect(field.locator(".paired")).to_have_text(["(", ")"])
    await code.fill("f(]")
    await keys.press("End")
    await expect(field.locator(".unpaired")).to_have_text("]")


async def test_the_line_of_an_error_is_marked(editor: Visit) -> None:
    page = editor.page
    schema = page.get_by_label("inputSchema")
    await schema.fill('{\n  "type": "object",\n  "properties": }\n}')
    field = page.locator(".field", has=schema)
    await expect(field.locator(".bad-line")).to_have_text("3")
    await expect(field.get_by_role("status")).to_contain_text("Line 3")
    await schema.fill('{"type": "object"}')
    await expect(field.locator(".bad-line")).to_have_count(0)

    code = page.get_by_label("executeFunction")
    await code.fill("(input) => {\n  return input +;\n}")
    await page.get_by_label("toolName").fill("brokenOfTheConsole")
    await page.get_by_label("displayName").fill("Broken")
    await page.get_by_label("description").fill("Broken.")
    await page.get_by_role("button", name="Save").click()
    await expect(code).to_have_attribute("aria-invalid", "true")
    await expect(page.locator(".field", has=code)).to_have_text(re.compile("executeFunction"))
