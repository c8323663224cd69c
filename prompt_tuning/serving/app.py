"""The routes of the service, as FastAPI describes and calls them."""

import functools
import math
import time
from collections.abc import Callable
from typing import Annotated, Any

import fastapi
import pydantic
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

import prompt_tuning
from prompt_tuning import checks
from prompt_tuning.serving import bodies, metrics, page, refusals, schemas, uploads, waiting
from prompt_tuning.serving.batcher import Job
from prompt_tuning.serving.gate import Gate
from prompt_tuning.serving.refusals import Refusal
from prompt_tuning.serving.security import Guard
from prompt_tuning.serving.service import Question, Service, State

_MEANINGS = {
  400: "the body is no JSON",
  401: "the token is missing or wrong",
  403: "the Host is another than this machine",
  404: "there is no such prompt",
  408: "the body did not arrive in time",
  413: "the body is too large",
  415: "the body is of another type",
  422: "what was asked cannot be used",
  429: "the queue is full",
  500: "the service failed",
  503: "the service is loading, busy or stopping",
  504: "the deadline passed",
}
_GUARDED = (401, 403, 500, 503)
_BODY = (400, 408, 413, 415, 422)
_WORK = (*_GUARDED, *_BODY, 429, 504)

PromptName = Annotated[str, fastapi.Path(pattern=schemas.NAME)]


def application(service: Service, token: bytes | None = None) -> Gate:
  """The ASGI application of a service."""
  app = FastAPI(
    title="prompt-tuning",
    version=prompt_tuning.__version__,
    description="One frozen model that answers with many prompts.",
    docs_url=None,
    redoc_url=None,
    redirect_slashes=False,
    dependencies=[] if token is None else [_documented_token()],
  )
  app.add_exception_handler(Refusal, _refused)
  app.add_exception_handler(checks.InputError, _refused)
  app.add_exception_handler(RequestValidationError, _refused)
  app.add_exception_handler(HTTPException, functools.partial(_http_error, app))
  app.add_exception_handler(Exception, _refused)
  _add_state(app, service)
  _add_prompts(app, service)
  _add_questions(app, service)
  return Gate(app, Guard(token), service.metrics, service.limits.requests)


def _add_state(app: FastAPI, service: Service) -> None:
  @app.get("/", include_in_schema=False)
  async def index() -> Response:
    headers = {"Content-Security-Policy": page.policy()}
    return Response(page.html(), headers=headers, media_type="text/html; charset=utf-8")

  @app.get("/healthz", responses=_errors(403, 500), response_model=schemas.State)
  async def healthz() -> Response:
    """Says that the process lives."""
    return JSONResponse({"status": "alive"})

  app.add_api_route("/healthz", healthz, methods=["HEAD"], include_in_schema=False)

  @app.get("/readyz", responses=_errors(403, 500, 503), response_model=schemas.State)
  async def readyz() -> Response:
    """Says whether the model is loaded and warmed up."""
    if service.state is not State.READY:
      raise refusals.loading() if service.state is State.LOADING else refusals.stopping()
    return JSONResponse({"status": "ready"})

  app.add_api_route("/readyz", readyz, methods=["HEAD"], include_in_schema=False)

  @app.get(
    "/metrics",
    response_class=Response,
    responses=_errors(*_GUARDED) | {200: {"content": {"text/plain": {}}}},
  )
  async def counted() -> Response:
    """Gives metrics in Prometheus's text format."""
    text = service.metrics.text()
    return Response(text, headers={"Content-Type": metrics.CONTENT_TYPE})


def _add_prompts(app: FastAPI, service: Service) -> None:
  limits = service.limits
  word = Annotated[str, pydantic.Field(min_length=1, max_length=schemas.LONGEST_LABEL)]
  words = Annotated[list[word] | None, fastapi.Query(max_length=limits.labels)]  # type: ignore[valid-type]

  @app.get("/v1/prompts", responses=_errors(*_GUARDED), response_model=schemas.Prompts)
  async def prompts() -> Response:
    """Lists the prompts."""
    rows = service.predictor.prompts().items()
    return JSONResponse({"prompts": [schemas.prompt(name, about) for name, about in rows]})

  @app.put(
    "/v1/prompts/{name}",
    responses=_errors(*_GUARDED, *_BODY),
    response_model=schemas.Prompt,
    openapi_extra=_body(
      **{
        bodies.BYTES: {"type": "string", "format": "binary"},
        bodies.JSON: schemas.FileRequest.model_json_schema(),
      }
    ),
  )
  async def put(request: Request, name: PromptName, label: words = None) -> Response:  # type: ignore[valid-type]
    """Adds a prompt or replaces it.

    The body is a safetensors file, or names one in the folder of prompts. `label`,
    repeated, is what the prompt chooses from; without it the file says that.
    """
    unknown = sorted(set(request.query_params) - {"label"})
    if unknown:
      raise refusals.invalid(f"the address has {unknown[0]!r:.40}, expected only label")
    if bodies.kind(request, bodies.BYTES, bodies.JSON) == bodies.JSON:
      asked = await bodies.parse(request, schemas.FileRequest, limits)
      content = await run_in_threadpool(
        uploads.read, service.prompt_dir, asked.path, limits.body_bytes
      )
    else:
      content = await bodies.read(request, limits)
    await run_in_threadpool(service.add, name, content, label)
    about = service.predictor.prompts().get(name)
    if about is None:
      raise refusals.invalid(f"the prompt {name!r} was removed by another request")
    return JSONResponse(schemas.prompt(name, about))

  @app.delete("/v1/prompts/{name}", responses=_errors(*_GUARDED, 404, 422), status_code=204)
  async def delete(name: PromptName) -> Response:
    """Removes a prompt; what waits for it is answered with an error."""
    try:
      await run_in_threadpool(service.remove, name)
    except checks.InputError as error:
      raise Refusal(404, "not_found", str(error)) from None
    return Response(status_code=204)


def _add_questions(app: FastAPI, service: Service) -> None:
  models = schemas.requests(service.limits)

  def route(path: str, model: type[pydantic.BaseModel]) -> Callable[[Any], Any]:
    return app.post(
      path,
      responses=_errors(*_WORK),
      response_model=schemas.AnswersBody,
      openapi_extra=_body(**{bodies.JSON: model.model_json_schema()}),
    )

  @route("/v1/predict", models.predict)
  async def predict(request: Request) -> Response:
    """Answers each text: the best label of its prompt, or decoded where it has none."""
    return await _answered(request, service, models.predict)

  @route("/v1/rank", models.rank)
  async def rank(request: Request) -> Response:
    """Gives the best of `labels` for each text, and the score of each label."""
    return await _answered(request, service, models.rank)

  @route("/v1/score", models.score)
  async def score(request: Request) -> Response:
    """Gives the log-likelihood of the target of each text."""
    return await _answered(request, service, models.score)


async def _answered(
  request: Request, service: Service, model: type[pydantic.BaseModel]
) -> Response:
  start = time.monotonic()
  service.predictor  # noqa: B018  (refuses before the body is read)
  asked: Any = await bodies.parse(request, model, service.limits)
  question = _question(asked)
  rows = await run_in_threadpool(service.prepare, question)
  timeout_ms = asked.timeout_ms or service.limits.timeout_ms
  job = Job(rows, start, timeout_ms)
  found = await waiting.answers(request, service.batcher, job)
  if not all(math.isfinite(score) for row in found for score in (row.score, *row.scores)):
    raise Refusal(500, "failed", "the model gave scores that are no numbers")
  return JSONResponse({"answers": [schemas.answer(row) for row in found]})


def _question(asked: Any) -> Question:
  """What a body asks.

  Raises:
    Refusal: Its lists are not of one length.
  """
  count = len(asked.texts)
  prompts = asked.prompt if isinstance(asked.prompt, list) else [asked.prompt] * count
  candidates = None
  if hasattr(asked, "targets"):
    candidates = [(target,) for target in asked.targets]
  elif hasattr(asked, "labels"):
    is_shared = isinstance(asked.labels[0], str)
    candidates = [tuple(x) for x in ([asked.labels] * count if is_shared else asked.labels)]
  for name, values in (("prompt", prompts), ("labels or targets", candidates)):
    if values is not None and len(values) != count:
      raise refusals.invalid(f"{name}: there are {len(values)} for {count} texts")
  return Question(
    texts=asked.texts,
    prompts=prompts,
    candidates=candidates,
    length_normalized=getattr(asked, "length_normalized", False),
  )


async def _refused(request: Request, error: Exception) -> Response:
  """Any error as what a client is told."""
  if isinstance(error, RequestValidationError):
    rows = error.errors()[:5]
    text = "; ".join(refusals.problem(row["loc"], row["msg"]) for row in rows)
    return refusals.invalid(text).response()
  if isinstance(error, checks.InputError):
    return refusals.invalid(str(error)).response()
  return (error if isinstance(error, Refusal) else refusals.failed()).response()


async def _http_error(app: FastAPI, request: Request, error: Exception) -> Response:
  """What the router refuses, in our shape and with all methods that a path has."""
  assert isinstance(error, HTTPException)
  if error.status_code != 405:
    code = "not_found" if error.status_code == 404 else "http"
    message = f"{error.detail}; /openapi.json lists what there is"
    return Refusal(error.status_code, code, message, error.headers).response()
  found: set[str] = set()
  for route in app.routes:
    if route.matches(request.scope)[0] is not Match.NONE:
      found |= getattr(route, "methods", None) or set()
  allowed = ", ".join(sorted(found))
  message = f"the method is {request.method[:20]}, expected {allowed}"
  return Refusal(405, "method_not_allowed", message, {"Allow": allowed}).response()


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
  """Documents error responses."""
  return {
    status: {"model": schemas.Error, "description": _MEANINGS[status]}
    for status in statuses
  }


def _body(**kinds: dict[str, Any]) -> dict[str, Any]:
  """Documents a body that the route reads itself."""
  content = {kind: {"schema": schema} for kind, schema in kinds.items()}
  return {"requestBody": {"required": True, "content": content}}


def _documented_token() -> Any:
  """The token in /openapi.json; the gate has checked it before."""
  from fastapi.security import HTTPBearer

  return fastapi.Security(HTTPBearer(auto_error=False))
