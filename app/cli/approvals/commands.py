"""The commands of `dynamic-agents approvals`."""

from typing import Annotated, Literal

import typer

from app.cli.running import DEFAULT_URL, Key, Url, finish, run

approvals_app = typer.Typer(help="Review tool calls that are waiting for approval on a server.")

ApprovalId = Annotated[str, typer.Argument(help="The approval's id, as `approvals list` shows it.")]
Message = Annotated[
    str | None, typer.Option("--message", help="A message; if you decline the call, the agent receives it.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
Status = Annotated[
    Literal["pending", "approved", "declined", "expired", "cancelled"],
    typer.Option("--status", help="The status of the approvals to list."),
]


@approvals_app.callback(invoke_without_command=True)
def list_by_default(context: typer.Context, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """List and decide on tool calls that are waiting for approval on a server."""
    if context.invoked_subcommand is None:
        list_approvals("pending", None, url, key)


@approvals_app.command("list")
def list_approvals(
    status: Status = "pending",
    project: Annotated[str | None, typer.Option("--project", help="The CMS project's id.")] = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """List approvals, oldest first. Requires a viewer's key."""
    from app.cli.approvals.decisions import print_approvals  # noqa: PLC0415 - heavy, see the docstring of app.cli.main

    run(print_approvals(url, key, status, project))


@approvals_app.command("show")
def show_approval(approval_id: ApprovalId, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Show a call with its exact input and the run that requested it."""
    from app.cli.approvals.decisions import print_approval  # noqa: PLC0415 - heavy, see the docstring of app.cli.main

    run(print_approval(url, key, approval_id))


@approvals_app.command("approve")
def approve(
    approval_id: ApprovalId,
    edited_input: Annotated[
        str | None, typer.Option("--input", help="An edited input, as JSON, to use instead of the model's.")
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="Edit the input in $EDITOR first.")] = False,
    message: Message = None,
    yes: Yes = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Show a call, then approve it with exactly that input or an edited one. Requires a runner's key."""
    from app.cli.approvals.decisions import decide, parse_input  # noqa: PLC0415 - heavy, see the docstring of app.cli.main

    edited = None if edited_input is None else parse_input(edited_input)
    decision = decide(url, key, approval_id, "approve", edited_input=edited, edit=edit, message=message, confirmed=yes)
    finish(run(decision))


@approvals_app.command("decline")
def decline(
    approval_id: ApprovalId, message: Message = None, yes: Yes = False, url: Url = DEFAULT_URL, key: Key = None
) -> None:
    """Show a call, then decline it; the agent receives the message. Requires a runner's key."""
    from app.cli.approvals.decisions import decide  # noqa: PLC0415 - heavy, see the docstring of app.cli.main

    finish(run(decide(url, key, approval_id, "decline", message=message, confirmed=yes)))
