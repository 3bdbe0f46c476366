"""The parameters in paths, with their descriptions."""

from typing import Annotated

from fastapi import Path

ApprovalIdPath = Annotated[str, Path(description="The approval's id, such as `appr_…`.", max_length=200)]
AgentIdPath = Annotated[str, Path(description="The agent's id, such as `plot-specialist-001`.")]
DepartmentPath = Annotated[str, Path(description="The department's slug, such as `story`.")]
ExecutionIdPath = Annotated[str, Path(description="The execution's id, such as `exec_…`.")]
KeyIdPath = Annotated[str, Path(description="The key's id.")]
ScopePath = Annotated[
    str,
    Path(
        description="The budget's scope: `global`, `project:ID`, `department:SLUG`, `agent:AGENT_ID` or `key:KEY_ID`.",
        max_length=300,
    ),
]
ToolNamePath = Annotated[str, Path(description="The tool's name, such as `textStatistics`.")]
WeightsPath = Annotated[str, Path(description="The department's slug, or `default` for all other departments.")]
