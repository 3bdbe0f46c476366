"""Starting runs: a run is stored with majority before its request is answered with 202."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from bson import ObjectId
from pymongo.errors import DuplicateKeyError

from app.errors import AppError, DatabaseUnavailable, InvalidInput, NotFound
from app.models.agent_execution import AgentExecution, ExecutionKind, Idempotency, RunOptions, StartedBy
from app.services.access.api_keys import Caller
from app.services.catalog.answer_schemas import check_output_schema
from app.services.catalog.definitions import AgentDefinition
from app.services.catalog.loader import CatalogConflict, DefinitionLoader, DepartmentNotFound
from app.services.llm.calls import ModelRequest, RunPurpose
from app.services.llm.failures.errors import ModelNotConfigured
from app.services.llm.gateway import ModelGateway
from app.services.llm.model_info.model_names import is_wildcard
from app.services.runs.accept.idempotency import find_made, idempotency_of
from app.services.runs.accept.schemas import OrchestrationCreate, RunCreate, check_params
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.queries.execution_shapes import NO_NAMES, ExecutionRead, Names, read_of
from app.services.runs.work.conversations import check_previous
from app.services.usage.budgets.amounts import Amount
from app.services.usage.budgets.budgets import Budgets
from app.services.usage.budgets.scopes import CallScopes
from app.services.usage.counters import open_counter
from app.services.usage.rate_limits import RateLimiter
from app.settings import Settings

ORCHESTRATING_DEPARTMENT = "production"
FIRST_PURPOSES = {
    ExecutionKind.AGENT: RunPurpose.WORK,
    ExecutionKind.DEPARTMENT: RunPurpose.PLAN,
    ExecutionKind.ORCHESTRATION: RunPurpose.ORCHESTRATE,
}
"""The purpose of the first call that a run's root makes."""

log = structlog.get_logger(__name__)


class OrchestratorMissing(CatalogConflict):
    """The department whose head leads orchestrations does not exist."""

    code = "orchestrator-missing"

    def __init__(self) -> None:
        super().__init__(
            f"The head of the department {ORCHESTRATING_DEPARTMENT!r} leads orchestrations, and there is no such "
            "department. Create it, with an active head."
        )


class ProjectNotFound(NotFound):
    """The caller's key is limited to other projects, so this one does not exist for it."""

    code = "project-not-found"

    def __init__(self, project: str) -> None:
        super().__init__(f"There is no project {project} for this key.")


@dataclass(frozen=True)
class AcceptedRun:
    """A stored run: its root, and the natural keys behind its relations as far as they are known.

    `replayed` means that an earlier request with the same idempotency key created it.
    """

    root: AgentExecution
    names: Names
    replayed: bool = False

    async def as_read(self) -> ExecutionRead:
        """Return the API form of the root; known natural keys are not looked up again."""
        return await read_of(self.root, self.names)


class ServiceStopping(AppError):
    """The process is shutting down and accepts no new runs."""

    code = "service-stopping"
    status = DatabaseUnavailable.status
    retry_after_seconds = 2

    def __init__(self) -> None:
        super().__init__("The service is stopping and accepts no new runs. Try again in a moment.")


@dataclass(frozen=True)
class RunStarter:
    """Checks a request against the catalog and the models, stores the root, and hands it to the engine."""

    loader: DefinitionLoader
    models: ModelGateway
    engine: RunEngine
    allowed_models: tuple[str, ...]
    complexity_models: Mapping[str, str]
    limiter: RateLimiter
    budgets: Budgets

    @property
    def worst_case(self) -> Callable[[ModelRequest], Amount]:
        """The maximum tokens and cost that a request can use."""
        return self.engine.context.worst_case

    async def start_agent_run(
        self, agent_id: str, request: RunCreate, caller: Caller, key: str | None = None
    ) -> AcceptedRun:
        """Start a run of one agent, or return the one that the idempotency key created.

        Raises:
            AgentNotFound, AgentInactive, AgentWithoutDepartment, DepartmentInactive: the agent cannot run.
            ModelNotConfigured: its model has no usable entry.
            InvalidInput: the request names a model that is not allowed or not configured, or no previous execution.
            IdempotencyKeyReused: the key was used for another request.
        """
        record = record_of(key, caller, f"agents/{agent_id}", request)
        if made := await self.find_made(record):
            return made
        agent = await self.loader.get_agent(agent_id)
        return await self._start(ExecutionKind.AGENT, agent, request, caller, record)

    async def start_department_run(
        self, slug: str, request: RunCreate, caller: Caller, key: str | None = None
    ) -> AcceptedRun:
        """Start a run of a department, whose root is the head's execution, or return the one that the key created.

        Raises:
            DepartmentNotFound, DepartmentInactive, DepartmentWithoutHead: the department cannot run.
            ModelNotConfigured: the head's model has no usable entry.
            InvalidInput: the request names a model that is not allowed or not configured, or no previous execution.
            IdempotencyKeyReused: the key was used for another request.
        """
        record = record_of(key, caller, f"departments/{slug}", request)
        if made := await self.find_made(record):
            return made
        team = await self.loader.get_team(slug)
        return await self._start(ExecutionKind.DEPARTMENT, team.head, request, caller, record)

    async def start_orchestration(
        self, request: OrchestrationCreate, caller: Caller, key: str | None = None
    ) -> AcceptedRun:
        """Start a run over several departments, whose root is an execution of the head of Production.

        Returns the existing run if an earlier request with the idempotency key created one.

        Raises:
            OrchestratorMissing: there is no department `production`.
            DepartmentInactive, DepartmentWithoutHead: that one, or one that the request names, cannot run.
            ModelNotConfigured: the model of the head of Production has no usable entry.
            InvalidInput: it names a department that does not exist, or a model that is not allowed or not configured.
            IdempotencyKeyReused: the key was used for another request.
        """
        record = record_of(key, caller, "orchestrations", request)
        if made := await self.find_made(record):
            return made
        slugs = await self._departments_of(request)
        try:
            team = await self.loader.get_team(ORCHESTRATING_DEPARTMENT)
        except DepartmentNotFound:
            raise OrchestratorMissing from None
        return await self._start(ExecutionKind.ORCHESTRATION, team.head, request, caller, record, slugs)

    async def _departments_of(self, request: OrchestrationCreate) -> list[str]:
        """Return the departments to run, by default all active ones; named ones are checked like department runs."""
        if request.departments is None:
            active = [one.slug for one in await self.loader.list_departments() if one.is_active]
            if not active:
                raise InvalidInput.of_field("departments", "there is no active department")
            return active
        seen: set[str] = set()
        for place, slug in enumerate(request.departments):
            if slug in seen:
                raise InvalidInput.of_field(f"departments.{place}", f"{slug[:100]!r} is named twice")
            seen.add(slug)
            try:
                await self.loader.get_team(slug)
            except DepartmentNotFound as error:
                raise InvalidInput.of_field(f"departments.{place}", error.message) from None
        return request.departments

    async def _start(
        self,
        kind: ExecutionKind,
        agent: AgentDefinition,
        request: RunCreate,
        caller: Caller,
        record: Idempotency | None,
        departments: list[str] | None = None,
    ) -> AcceptedRun:
        if not caller.may_see(request.project):
            raise ProjectNotFound(request.project)
        await check_params(request.params)
        await check_output_schema(request.output_schema)
        self._check_model(kind, agent, request)
        model = self.first_model(kind, self._chosen_model(request) or agent.model)
        await self.check_budgets(agent, request.project, started_by(caller).api_key, model, request.prompt)
        await self.admit(caller)
        conversation_id = request.conversation_id
        if (previous := request.previous_execution_id) is not None:
            continued = await check_previous(self.engine.database, previous, request.project, caller)
            conversation_id = conversation_id or continued
        root = AgentExecution.new_root(
            agent=agent.id,
            department=agent.department.id,
            kind=kind,
            project=ObjectId(request.project),  # pyright: ignore[reportArgumentType] - Beanie's id type is one
            episode=ObjectId(request.episode) if request.episode else None,  # pyright: ignore[reportArgumentType]
            conversation_id=conversation_id,
            prompt=request.prompt,
            params=request.params,
            options=RunOptions(
                model=self._chosen_model(request),
                max_revisions=request.max_revisions,
                deltas=request.deltas,
                judge=request.judge,
                departments=departments,
                tags=list(dict.fromkeys(request.tags)),
                cache=request.cache,
                approvals=request.approvals,
                max_tokens=request.max_tokens,
                max_cost_usd=request.max_cost_usd,
                output_schema=request.output_schema,
            ),
            started_by=started_by(caller),
            previous_execution_id=request.previous_execution_id,
            idempotency=record,
        )
        return await self.store(root, agent)

    async def check_budgets(
        self, agent: AgentDefinition, project: str | None, api_key: str | None, model: str, prompt: str
    ) -> None:
        """Check that the budgets of a new run leave room for its first call.

        Raises:
            BudgetExhausted: one of them does not.
            BudgetUnavailable: they cannot be checked.
        """
        scopes = CallScopes(agent.agent_id, agent.department.slug, project, api_key)
        if self.budgets.applying(scopes):
            first = ModelRequest(model, [{"content": prompt}], RunPurpose.WORK, "")
            await self.budgets.admit([scopes], self.worst_case(first))

    async def admit(self, caller: Caller) -> None:
        """Count a run that is about to start against the caller's limit.

        Raises:
            TooManyRequests: the limit is reached.
            ServiceStopping: the process accepts no new runs.
        """
        await self.limiter.hit(caller.id, caller.run_rate_limit)
        if self.engine.is_stopping:
            raise ServiceStopping

    async def store(self, root: AgentExecution, agent: AgentDefinition) -> AcceptedRun:
        """Store a root and run it; of two with the same idempotency key only the first is stored."""
        root.priority = agent.department.priority
        root.id = ObjectId()  # pyright: ignore[reportAttributeAccessIssue] - PydanticObjectId is one
        try:
            await self.engine.accept(root, agent)
        except DuplicateKeyError:
            if made := await self.find_made(root.idempotency):
                return made
            raise
        log.info("run-accepted", executionId=root.execution_id, kind=root.kind, agentId=agent.agent_id)
        department = agent.department
        return AcceptedRun(root, Names({agent.id: agent.agent_id}, {department.id: department.slug}))

    async def find_made(self, record: Idempotency | None) -> AcceptedRun | None:
        """Return the run that an earlier request with the same idempotency key created, if any.

        Raises:
            IdempotencyKeyReused: that request had another body.
        """
        found = await find_made(self.engine.database, record) if record else None
        return AcceptedRun(found, NO_NAMES, replayed=True) if found else None

    def _chosen_model(self, request: RunCreate) -> str | None:
        """Return the model that the client chose, by name or by complexity."""
        return request.model or (self.complexity_models[request.complexity] if request.complexity else None)

    def first_model(self, kind: ExecutionKind, own: str) -> str:
        """Return the model of a run's first call, which can be that of its purpose instead of the run's own."""
        purpose = FIRST_PURPOSES[kind]
        return self.engine.context.purposes.model_for(purpose, own)

    def _check_model(self, kind: ExecutionKind, agent: AgentDefinition, request: RunCreate) -> None:
        """Refuse a model that cannot be called."""
        chosen = self._chosen_model(request)
        if chosen is None:
            self.models.check(self.first_model(kind, agent.model))
            return
        field = "model" if request.model else "complexity"
        is_known = chosen in self.allowed_models or self.models.has(chosen) or is_wildcard(chosen)
        if not is_known:
            raise InvalidInput.of_field(field, f"{chosen!r} is not an allowed model; GET /api/v1/models lists them.")
        try:
            self.models.check(chosen)
        except ModelNotConfigured as error:
            raise InvalidInput.of_field(field, error.message) from None


def started_by(caller: Caller) -> StartedBy:
    """Return the caller as the run's executions name it."""
    actor = caller.actor
    return StartedBy(type=actor.type, name=actor.name, api_key=caller.id if actor.type == "api-key" else None)


def record_of(key: str | None, caller: Caller, path: str, request: RunCreate) -> Idempotency | None:
    """Return the idempotency record of a request with a key; a missing field equals its default."""
    if key is None:
        return None
    return idempotency_of(key, caller.id, path, request.model_dump(mode="json", exclude_defaults=True))


@asynccontextmanager
async def open_starter(
    settings: Settings,
    loader: DefinitionLoader,
    models: ModelGateway,
    engine: RunEngine,
    budgets: Budgets,
) -> AsyncGenerator[RunStarter]:
    """Open the starter of runs, whose rate limit is shared by all processes on the same Redis."""
    async with open_counter(settings.redis_uri) as counter:
        limiter = RateLimiter("Starting runs", settings.run_rate_limit, counter)
        yield RunStarter(loader, models, engine, settings.allowed_models, settings.complexity_models, limiter, budgets)
