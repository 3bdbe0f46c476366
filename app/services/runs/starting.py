"""Accepting runs: what is answered 202 is stored with majority first."""

from dataclasses import dataclass

from bson import ObjectId
from pymongo.errors import ConnectionFailure

from app.errors import AppError, DatabaseUnavailable, InvalidInput, NotFound
from app.models.agent_execution import AgentExecution, ExecutionKind, RunOptions
from app.services.access.api_keys import Caller
from app.services.catalog.definitions import AgentDefinition
from app.services.catalog.loading import CatalogConflict, DefinitionLoader, DepartmentNotFound
from app.services.llm.errors import ModelNotConfigured
from app.services.llm.gateway import ModelGateway
from app.services.runs.engine import RunEngine
from app.services.runs.executions import ExecutionRead, Names, read_of
from app.services.runs.requests import OrchestrationCreate, RunCreate, storable_params
from app.services.runs.tree import new_execution_id
from app.services.usage.rate_limits import RateLimiter

ORCHESTRATING_DEPARTMENT = "production"


class OrchestratorMissing(CatalogConflict):
    """There is nobody to lead an orchestration."""

    code = "orchestrator-missing"

    def __init__(self) -> None:
        super().__init__(
            f"The head of the department {ORCHESTRATING_DEPARTMENT!r} leads orchestrations, and there is no such "
            "department. Create it, with an active head."
        )


class ProjectNotFound(NotFound):
    """The caller's key is made for other projects; to it this one does not exist."""

    code = "project-not-found"

    def __init__(self, project: str) -> None:
        super().__init__(f"There is no project {project} for this key.")


@dataclass(frozen=True)
class AcceptedRun:
    """A run that was stored: its root and the agent that runs it."""

    root: AgentExecution
    agent: AgentDefinition

    @property
    def names(self) -> Names:
        """The natural keys behind the root's relations."""
        department = self.agent.department
        return Names({self.agent.id: self.agent.agent_id}, {department.id: department.slug})

    def as_read(self) -> ExecutionRead:
        """The shape of the root, without another look into the database."""
        return read_of(self.root, self.names)


class ServiceStopping(AppError):
    """The process is shutting down and takes no new runs."""

    code = "service-stopping"
    status = DatabaseUnavailable.status
    retry_after_seconds = 2

    def __init__(self) -> None:
        super().__init__("The service is stopping and takes no new runs. Try again in a moment.")


@dataclass(frozen=True)
class RunStarter:
    """Checks a request against the catalogue and the models, stores the root, and hands it to the engine."""

    loader: DefinitionLoader
    models: ModelGateway
    engine: RunEngine
    allowed_models: tuple[str, ...]
    limiter: RateLimiter

    async def start_agent_run(self, agent_id: str, request: RunCreate, caller: Caller) -> AcceptedRun:
        """Start a run of one agent.

        Raises:
            AgentNotFound, AgentInactive, AgentWithoutDepartment, DepartmentInactive: the agent cannot run.
            ModelNotConfigured: its model has no usable entry.
            InvalidInput: the request names a model that is not allowed or not configured.
        """
        return await self._start(ExecutionKind.AGENT, await self.loader.get_agent(agent_id), request, caller)

    async def start_department_run(self, slug: str, request: RunCreate, caller: Caller) -> AcceptedRun:
        """Start a run of a department; its root is the head's execution.

        Raises:
            DepartmentNotFound, DepartmentInactive, DepartmentWithoutHead: the department cannot run.
            ModelNotConfigured: the head's model has no usable entry.
            InvalidInput: the request names a model that is not allowed or not configured.
        """
        team = await self.loader.get_team(slug)
        return await self._start(ExecutionKind.DEPARTMENT, team.head, request, caller)

    async def start_orchestration(self, request: OrchestrationCreate, caller: Caller) -> AcceptedRun:
        """Start a run over several departments; its root is an execution of the head of Production.

        Raises:
            OrchestratorMissing: there is no department `production`.
            DepartmentInactive, DepartmentWithoutHead: that one, or one that the request names, cannot run.
            ModelNotConfigured: the model of the head of Production has no usable entry.
            InvalidInput: it names a department that does not exist, or a model that is not allowed or not configured.
        """
        slugs = await self._departments_of(request)
        try:
            team = await self.loader.get_team(ORCHESTRATING_DEPARTMENT)
        except DepartmentNotFound:
            raise OrchestratorMissing from None
        return await self._start(ExecutionKind.ORCHESTRATION, team.head, request, caller, slugs)

    async def _departments_of(self, request: OrchestrationCreate) -> list[str]:
        """The departments to run, each checked as a run of its own would be; by default all active ones."""
        if request.departments is None:
            active = [one.slug for one in await self.loader.list_departments() if one.is_active]
            if not active:
                raise InvalidInput.of_field("departments", "there is no active department")
            return active
        for place, slug in enumerate(request.departments):
            if slug in request.departments[:place]:
                raise InvalidInput.of_field(f"departments.{place}", f"{slug!r} is named twice")
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
        departments: list[str] | None = None,
    ) -> AcceptedRun:
        if not caller.may_see(request.project):
            raise ProjectNotFound(request.project)
        await self.limiter.hit(caller.id, caller.run_rate_limit)
        if not self.engine.is_healthy:
            raise ServiceStopping
        if problem := storable_params(request.params):
            raise InvalidInput.of_field("params", problem)
        self._check_model(agent, request)
        execution_id = new_execution_id()
        root = AgentExecution(
            execution_id=execution_id,
            agent=agent.id,
            department=agent.department.id,
            project=ObjectId(request.project),  # pyright: ignore[reportArgumentType] - Beanie's id type is one
            episode=ObjectId(request.episode) if request.episode else None,  # pyright: ignore[reportArgumentType]
            conversation_id=request.conversation_id,
            prompt=request.prompt,
            params=request.params,
            kind=kind,
            root_execution_id=execution_id,
            options=RunOptions(
                model=request.chosen_model,
                max_revisions=request.max_revisions,
                deltas=request.deltas,
                judge=request.judge,
                departments=departments,
            ),
            fence=1,
            lease=self.engine.leases.new_lease(),
        )
        try:
            root.id = ObjectId()  # pyright: ignore[reportAttributeAccessIssue] - PydanticObjectId is one
            await self.engine.database[AgentExecution.get_collection_name()].insert_one(root.as_stored())
        except ConnectionFailure:
            raise DatabaseUnavailable from None
        self.engine.submit(root, agent)
        return AcceptedRun(root, agent)

    def _check_model(self, agent: AgentDefinition, request: RunCreate) -> None:
        """Refuse at once what could only fail later."""
        chosen = request.chosen_model
        if chosen is None:
            self.models.check(agent.model)
            return
        field = "model" if request.model else "complexity"
        if chosen not in self.allowed_models and chosen not in self.models.table.names:
            raise InvalidInput.of_field(field, f"{chosen!r} is not an allowed model; GET /api/v1/models lists them.")
        try:
            self.models.check(chosen)
        except ModelNotConfigured as error:
            raise InvalidInput.of_field(field, error.message) from None
