"""Microsoft's Graph client, pointed at a tracker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from kiota_abstractions.authentication import (
    AccessTokenProvider,
    AllowedHostsValidator,
    BaseBearerTokenAuthenticationProvider,
)
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_abstractions.headers_collection import HeadersCollection
from kiota_http.middleware.options import HeadersInspectionHandlerOption
from msgraph_beta import GraphRequestAdapter, GraphServiceClient
from msgraph_beta.generated.communications.calls.item.operations.operations_request_builder import (
    OperationsRequestBuilder,
)

from tests.support.dev_stack import TOKEN

Query = OperationsRequestBuilder.OperationsRequestBuilderGetQueryParameters


class OurToken(AccessTokenProvider):
    """Has the one token of `tracker dev`."""

    async def get_authorization_token(self, _uri: str, _additional: Any = None) -> str:
        return TOKEN

    def get_allowed_hosts_validator(self) -> AllowedHostsValidator:
        return AllowedHostsValidator([])


@asynccontextmanager
async def graph(base_url: str) -> AsyncIterator[GraphServiceClient]:
    """The client with its own default middleware (retries, redirects, telemetry)."""
    adapter = GraphRequestAdapter(BaseBearerTokenAuthenticationProvider(OurToken()))
    adapter.base_url = base_url
    try:
        yield GraphServiceClient(request_adapter=adapter)
    finally:
        await adapter._http_client.aclose()


def operations_of(client: GraphServiceClient, call: str) -> OperationsRequestBuilder:
    """What stands at `/communications/calls/{call}/operations`."""
    return client.communications.calls.by_call_id(call).operations


def asking(query: Any = None, *options: Any, **headers: str) -> RequestConfiguration:
    """What one request adds: query options, middleware options, and headers (`if_match=…` is `If-Match: …`)."""
    collection = HeadersCollection()
    for name, value in headers.items():
        collection.add(name.replace("_", "-"), value)
    return RequestConfiguration(query_parameters=query, headers=collection, options=list(options))


class Seen:
    """Remembers the headers of an answer; given to `asking`."""

    def __init__(self) -> None:
        self.option = HeadersInspectionHandlerOption(inspect_response_headers=True)

    def __getitem__(self, name: str) -> str:
        values: set[str] = self.option.response_headers.get(name)
        assert values, f"the answer has no {name}"
        return ", ".join(values)
