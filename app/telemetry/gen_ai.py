"""The names that spans of agents, model calls and tool calls have, by OpenTelemetry's conventions for generative AI.

These conventions are still in development: a later version may rename what is here. Names of this service begin with
`dynamic_agents`.
"""

CONVENTIONS_VERSION = "1.41.0"
"""The version of the semantic conventions that these names are taken from."""
SCHEMA_URL = f"https://opentelemetry.io/schemas/{CONVENTIONS_VERSION}"

OPERATION = "gen_ai.operation.name"
INVOKE_AGENT = "invoke_agent"
CHAT = "chat"
EXECUTE_TOOL = "execute_tool"

AGENT_ID = "gen_ai.agent.id"
AGENT_NAME = "gen_ai.agent.name"
CONVERSATION_ID = "gen_ai.conversation.id"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_TEMPERATURE = "gen_ai.request.temperature"
REQUEST_STREAM = "gen_ai.request.stream"
OUTPUT_TYPE = "gen_ai.output.type"
RESPONSE_MODEL = "gen_ai.response.model"
FINISH_REASONS = "gen_ai.response.finish_reasons"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TOOL_NAME = "gen_ai.tool.name"
TOOL_CALL_ID = "gen_ai.tool.call.id"
TOOL_TYPE = "gen_ai.tool.type"
FUNCTION = "function"
ERROR_TYPE = "error.type"

INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"

EXECUTION_ID = "dynamic_agents.execution.id"
ROOT_EXECUTION_ID = "dynamic_agents.root_execution.id"
KIND = "dynamic_agents.execution.kind"
STATUS = "dynamic_agents.execution.status"
STOP_REASON = "dynamic_agents.execution.stop_reason"
TAKEOVERS = "dynamic_agents.takeovers"
PURPOSE = "dynamic_agents.model_call.purpose"
ATTEMPTS = "dynamic_agents.model_call.attempts"
COST = "dynamic_agents.cost_usd"
TOOL_SOURCE = "dynamic_agents.tool.source"
APPROVAL_STATUS = "dynamic_agents.approval.status"
REVIEW_STATUS = "dynamic_agents.review.status"

PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""The convention's names of providers, by LiteLLM's; others are the same."""


def provider_of(deployment: str) -> str:
    """Return the provider in LiteLLM's name of a deployment, such as `gemini/gemini-3-pro`."""
    prefix, slash, _ = deployment.partition("/")
    return PROVIDERS.get(prefix, prefix) if slash else "openai"
