"""The application: three resources over admission and the status."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Final, Protocol

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hub.admission import Admission, AdmissionRequest, ApiKeys, Principal, Sweeper
from hub.configuration import Configuration
from hub.errors import Away, InvalidField, Refused
from hub.event import read_reference
from hub.gazetteer import Gazetteer
from hub.intake import problem
from hub.intake.answers import admitted_answer, status_answer, status_path
from hub.intake.body import read_json_body
from hub.intake.guard import API_VERSION, Guard
from hub.intake.problem import TITLES, Declined
from hub.outcome import Outcome, fold
from hub.telemetry import logger

_KEY_HEADER: Final = "Idempotency-Key"
_DETAILS: Final = {
    404: "Dit adres bestaat niet.",
    405: "Deze methode kan hier niet.",
}


Close = Callable[[], Awaitable[None]]


class Steps(Protocol):
    """What the door needs of the status: outcomes of an event id, oldest first."""

    async def asteps(self, key: str) -> Sequence[Outcome]: ...


class Door:
    """What every request is answered with."""

    def __init__(
        self,
        admission: Admission,
        api_keys: ApiKeys,
        status: Steps,
        configuration: Configuration,
        sweeper: Sweeper | None,
        gazetteer: Gazetteer,
        close: Close | None,
    ) -> None:
        self.admission = admission
        self.api_keys = api_keys
        self.status = status
        self.configuration = configuration
        self.sweeper = sweeper
        self.gazetteer = gazetteer
        self.close = close
        self.sweeping: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self, _app: FastAPI) -> AsyncIterator[None]:
        """The sweeper lives as long as the application; `close` comes after the last answer."""
        # Read what it looks things up in now, not while the first citizen waits.
        await asyncio.to_thread(self.gazetteer.by_point, 52.1, 5.1)
        await asyncio.to_thread(self.gazetteer.by_postcode, "1011")
        if self.sweeper is not None:
            self.sweeping = asyncio.create_task(self.sweeper.run(), name="sweeper")
        try:
            yield
        finally:
            if self.sweeping is not None:
                self.sweeping.cancel()
                await asyncio.gather(self.sweeping, return_exceptions=True)
            if self.close is not None:
                await self.close()

    async def principal(self, request: Request) -> Principal:
        """Who posts, from the credential alone. Raises Declined: 401, 403."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        known = None
        if scheme.lower() == "bearer":
            known = await self.api_keys.authenticate(secret.strip())
        if known is None:
            raise Declined(
                401,
                "unauthenticated",
                "Stuur een geldige sleutel mee: Authorization: Bearer hub_live_...",
                {"WWW-Authenticate": "Bearer"},
            )
        tenant = self.configuration.tenants.get(known.tenant)
        if tenant is None or known.client not in tenant.clients:
            raise Declined(
                403,
                "client_not_configured",
                "Deze sleutel is geldig, maar de website staat niet meer in de configuratie.",
            )
        return known

    async def post(self, request: Request, principal: Principal) -> Response:
        posted = AdmissionRequest(await read_json_body(request))
        posted, key = self._idempotency_key(request, principal, posted)
        admitted = await self.admission.admit(
            principal, posted, key, request.headers.get("traceparent")
        )
        logger().info(
            "request_admitted",
            event_id=admitted.id,
            reference=admitted.reference,
            state="repeat" if admitted.repeat else "new",
        )
        place = {"Location": status_path(admitted.reference)}
        return JSONResponse(admitted_answer(admitted), 202, place)

    async def get(self, written: str, principal: Principal) -> Response:
        """The row first: a request is known here from its 202 on, whatever the projection has."""
        try:
            reference = read_reference(written)
        except ValueError:
            raise Declined(
                404,
                "reference_misread",
                "Dit kenmerk klopt niet: er is een teken verkeerd gelezen.",
            ) from None
        row = await self.admission.find(principal, reference)
        if row is None:
            raise Declined(404, "unknown_reference", "Er is geen verzoek met dit kenmerk.")
        status = fold(await self.status.asteps(row.id))
        return JSONResponse(status_answer(row, status))

    def health(self) -> Response:
        """Liveness: 503 asks to be started again, and speaks of this process alone."""
        if self.sweeping is not None and self.sweeping.done():
            return problem.problem(503, "sweeper_ended", "De veger is gestopt; herstart de intake.")
        return JSONResponse({"status": "ok", "versie": API_VERSION})

    def _idempotency_key(
        self, request: Request, principal: Principal, posted: AdmissionRequest
    ) -> tuple[AdmissionRequest, str]:
        """From the header, else from the field that is configured for this website."""
        given = request.headers.getlist(_KEY_HEADER)
        pointer = self._pointer(principal)
        inside: str | None = None
        if pointer is not None:
            posted, inside = posted.lift(pointer)
        found = given[0] if given else inside
        if not found or len(given) > 1:
            places = f"de header {_KEY_HEADER}" + (f" of het veld {pointer}" if pointer else "")
            reason = f"Geef precies een sleutel tegen herhaling, in {places}."
            field = InvalidField(_KEY_HEADER, "idempotency_key_required", reason)
            fields = (field, *self.admission.faults_of(posted))
            raise Refused("idempotency_key_required", reason, fields)
        return posted, found

    def _pointer(self, principal: Principal) -> str | None:
        return (
            self.configuration.tenants[principal.tenant]
            .clients[principal.client]
            .idempotency_pointer
        )


def create_app(
    admission: Admission,
    api_keys: ApiKeys,
    status: Steps,
    configuration: Configuration,
    gazetteer: Gazetteer,
    sweeper: Sweeper | None = None,
    close: Close | None = None,
) -> FastAPI:
    """The ASGI application; its lifespan runs `sweeper`, and ends with `close`."""
    door = Door(admission, api_keys, status, configuration, sweeper, gazetteer, close)
    # No documentation pages: theirs load scripts from elsewhere.
    app = FastAPI(
        title="Verzoeken",
        version=API_VERSION,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=door.open,
    )
    app.add_middleware(Guard)
    _handle_errors(app, gazetteer)
    app.include_router(_routes(door))
    return app


def _routes(door: Door) -> APIRouter:
    router = APIRouter(prefix="/v1")
    known = Annotated[Principal, Depends(door.principal)]

    @router.post("/verzoeken", status_code=202)
    async def post_request(request: Request, principal: known) -> Response:
        return await door.post(request, principal)

    @router.get("/verzoeken/{referentie}")
    async def get_request(referentie: str, principal: known) -> Response:
        return await door.get(referentie, principal)

    @router.get("/health")
    async def get_health() -> Response:
        return door.health()

    return router


def _handle_errors(app: FastAPI, gazetteer: Gazetteer) -> None:
    @app.exception_handler(Refused)
    async def on_refused(_request: Request, error: Refused) -> Response:
        logger().info("request_refused", code=error.code, count=len(error.fields))
        return problem.refused(error, gazetteer.name)

    @app.exception_handler(Declined)
    async def on_declined(_request: Request, error: Declined) -> Response:
        return problem.problem(error.status, error.code, error.detail, error.headers)

    @app.exception_handler(Away)
    async def on_away(_request: Request, error: Away) -> Response:
        logger().warning("intake_away", error=str(error))
        return problem.away()

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_request: Request, _error: RequestValidationError) -> Response:
        return problem.problem(400, "invalid_request", "Het verzoek is niet in orde.")

    @app.exception_handler(HTTPException)
    async def on_http(_request: Request, error: HTTPException) -> Response:
        status = error.status_code if error.status_code in TITLES else 400
        detail = _DETAILS.get(status, "Het verzoek is niet in orde.")
        return problem.problem(status, f"http_{status}", detail, error.headers)
