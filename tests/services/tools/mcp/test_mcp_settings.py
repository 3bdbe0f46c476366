"""The file of MCP servers: every key of an entry, variables with defaults, and warnings for keys that nothing reads."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.services.tools.mcp.settings import McpServerSettings, load_mcp_servers


def load(tmp_path: Path, text: str) -> dict[str, McpServerSettings]:
    """The servers of a file."""
    path = tmp_path / "servers.yaml"
    path.write_text(text)
    return load_mcp_servers(path)


def test_every_key_of_an_entry_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("HOST", "a.example")
    monkeypatch.delenv("UNSET", raising=False)
    servers = load(
        tmp_path,
        """
mcpServers:
  files:
    command: ${UNSET:-npx}
    args: [-y, server, 8080]
    env: {ROOT: '${EMPTY:-/data}', EXACT: '${EMPTY}', URL: 'https://${env:HOST}/${UNSET:-}'}
    cwd: /tmp
    timeout: 60
    startupTimeout: ${UNSET:-300}
    allowedTools: [read, 'list_*']
  web: {type: streamable-http, url: 'https://${HOST}/mcp', headers: {A: b}}
  old:
    type: sse
    url: https://a.example/sse
    oauth: {clientId: a, clientSecret: b, issuer: 'https://i.example', scope: s}
  off: {disabled: true, url: '${UNSET}', nonsense: 1}
""",
    )

    files, web, old, off = servers.values()
    assert (files.command, files.args, files.cwd) == ("npx", ["-y", "server", "8080"], "/tmp")  # noqa: S108 - of a test
    assert files.env == {"ROOT": "/data", "EXACT": "", "URL": "https://a.example/"}
    assert (files.timeout, files.startup_timeout, files.transport) == (60, 300, "stdio")
    assert [files.allows(name) for name in ("read", "list_all", "write")] == [True, True, False]
    assert (web.transport, web.url, web.headers, web.allows("any")) == (
        "http",
        "https://a.example/mcp",
        {"A": "b"},
        True,
    )
    assert old.oauth is not None
    assert (old.transport, old.oauth.client_id, old.oauth.scope) == ("sse", "a", "s")
    assert "'b'" not in repr(old), "a secret is in no representation"
    assert (off.disabled, off.transport) == (True, None)


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("comand", "Did you mean command?"),
        ("header", "Did you mean headers?"),
        ("startup_timeout_sec", "Did you mean startupTimeout?"),
        ("httpUrl", "Did you mean url?"),
        ("enabled", "Did you mean disabled?"),
        ("allowed_tool", "Did you mean allowedTools?"),
        ("zzz", "It is ignored."),
    ],
)
def test_an_unknown_key_is_a_warning_with_the_likely_name(tmp_path: Path, key: str, advice: str) -> None:
    with capture_logs() as logs:
        servers = load(tmp_path, f"mcpServers: {{a: {{command: x, {key}: secret}}}}")

    assert list(servers) == ["a"]
    assert logs == [
        {"event": "mcp-setting-unknown", "log_level": "warning", "server": "a", "setting": key, "advice": advice}
    ]


def test_unknown_keys_beside_and_below_an_entry_are_warnings_too(tmp_path: Path) -> None:
    oauth = "{clientId: a, clientSecret: b, issuer: 'http://i', scopes: s}"
    with capture_logs() as logs:
        load(tmp_path, f"{{mcpServers: {{a: {{url: 'http://a.example', oauth: {oauth}}}}}, mcpserver: {{}}}}")

    assert [(log["setting"], log["advice"]) for log in logs] == [
        ("mcpserver", "List servers under mcpServers."),
        ("oauth.scopes", "Did you mean oauth.scope?"),
    ]
