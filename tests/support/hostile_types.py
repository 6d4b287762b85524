"""Operation types whose handlers print, log and raise what their operation says, as a careless handler does."""

import logging

from tracker import Context, Operation, ResultInfo, handles

log = logging.getLogger(__name__)


class Careless(Operation, type="#hostile.careless"):
    text: str


class CarelessFunction(Operation, type="#hostile.carelessFunction"):
    text: str


class Telling(Operation, type="#hostile.telling"):
    text: str


@handles(Careless, attempts=1)
async def careless(operation: Careless, _: Context) -> None:
    print(operation.text)
    log.warning("got %s", operation.text)
    raise ValueError(operation.text)


@handles(CarelessFunction, attempts=1)
def careless_function(operation: CarelessFunction, _: Context) -> None:
    print(operation.text)
    log.warning("got %s", operation.text)
    raise ValueError(operation.text)


@handles(Telling, attempts=1)
async def telling(operation: Telling, context: Context) -> ResultInfo:
    await context.progress(50, operation.text)
    return ResultInfo(code=200, message=operation.text)
