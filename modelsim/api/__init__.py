"""The APIs that a model server speaks: what each makes of a body, and how it words an answer. Pure."""

from modelsim.api.base import Api
from modelsim.api.chat import ChatCompletions
from modelsim.api.completions import Completions
from modelsim.api.embeddings import Embeddings
from modelsim.api.messages import Messages
from modelsim.api.responses import Responses

#: Path -> the API that is served there.
APIS: dict[str, Api] = {
    "/v1/chat/completions": ChatCompletions(),
    "/v1/completions": Completions(),
    "/v1/embeddings": Embeddings(),
    "/v1/messages": Messages(),
    "/v1/responses": Responses(),
}
