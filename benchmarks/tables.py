"""The form in which every benchmark shows its figures."""

from rich.table import Table


def table_of(title: str, *headings: str) -> Table:
    """A table whose first column is a name and whose others are figures."""
    table = Table("", title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def goal(figure: str, *, met: bool) -> str:
    """A figure that has a goal."""
    return f"[green]{figure}[/]" if met else f"[red]{figure}[/] (goal missed)"
