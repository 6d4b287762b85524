"""Microsoft's Graph client with the address and the token of a tracker."""

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
    """Supplies the token of `tracker dev`."""

    async def get_authorization_token(self, _uri: str, _additional: Any = None) -> str:
        return TOKEN

    def get_allowed_hosts_validator(self) -> AllowedHostsValidator:
        return AllowedHostsValidator([])


@asynccontextmanager
async def graph(base_url: str) -> AsyncIterator[GraphServiceClient]:
    """Open a client with the default middleware of Microsoft: retries, redirects, telemetry."""
    adapter = GraphRequestAdapter(BaseBearerTokenAuthenticationProvider(OurToken()))
    adapter.base_url = base_url
    try:
        yield GraphServiceClient(request_adapter=adapter)
    finally:
        await adapter._http_client.aclose()


def operations_of(client: GraphServiceClient, call: str) -> OperationsRequestBuilder:
    """The request builder for `/communications/calls/{call}/operations`."""
    return client.communications.calls.by_call_id(call).operations


def asking(query: Any = None, *options: Any, **headers: str) -> RequestConfiguration:
    """The configuration of one request: query options, middleware options, headers (`if_match=…` is `If-Match: …`)."""
    collection = HeadersCollection()
    for name, value in headers.items():
        collection.add(name.replace("_", "-"), value)
    return RequestConfiguration(query_parameters=query, headers=collection, options=list(options))


class Seen:
    """The headers of an answer. Its `option` is passed to `asking`, and collects them."""

    def __init__(self) -> None:
        self.option = HeadersInspectionHandlerOption(inspect_response_headers=True)

    def __getitem__(self, name: str) -> str:
        values: set[str] = self.option.response_headers.get(name)
        assert values, f"the answer has no {name}"
        return ", ".join(values)
