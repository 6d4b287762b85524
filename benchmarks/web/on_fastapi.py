"""HTTP service on FastAPI, with uvicorn on uvloop and httptools, in one process without access log."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.web.system import Jobs

packages = ("fastapi", "uvicorn", "uvloop", "httptools")


class Job(BaseModel):
    """The body of a request to enqueue a task."""

    number: int


class Accepted(BaseModel):
    """The answer to a request to enqueue a task."""

    id: str
    status: str = "pending"


class State(BaseModel):
    """The state of a task."""

    status: str
    result: int | None = None


async def serve(jobs: Jobs, port: int) -> None:
    """Serve until the process is ended."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await jobs.open()
        yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/jobs", status_code=202)
    async def create(job: Job) -> Accepted:
        return Accepted(id=await jobs.start(job.number))

    @app.post("/jobs/done")
    async def done(job: Job, every: float) -> State:
        return State(status="done", result=await jobs.done(job.number, every))

    @app.get("/jobs/{job_id}")
    async def read(job_id: str) -> State:
        result = await jobs.result(job_id)
        return State(status="pending" if result is None else "done", result=result)

    @app.get("/jobs/{job_id}/wait")
    async def wait(job_id: str, every: float) -> State:
        return State(status="done", result=await jobs.wait(job_id, every))

    options = {"http": "httptools", "access_log": False, "log_level": "warning"}
    await uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, **options)).serve()
