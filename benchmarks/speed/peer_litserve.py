"""LitServe: ``{"image_data": base64}`` in, as its guide sends images; the queue that it calls fast."""

import base64
import io
import sys

import litserve
import numpy as np
import torch
from peer_serving import BATCH, WINDOW_S, load, pixels
from PIL import Image


class Embed(litserve.LitAPI):
    """Decodes in the worker, as all of its examples do."""

    def setup(self, device):
        del device
        self.model = load()

    def decode_request(self, request):
        return pixels(Image.open(io.BytesIO(base64.b64decode(request["image_data"]))))

    def batch(self, inputs):
        return torch.from_numpy(np.stack(inputs))

    @torch.inference_mode()
    def predict(self, x):
        return self.model(x)

    def unbatch(self, output):
        return list(output)

    def encode_response(self, output):
        return {"embedding": output.tolist()}


if __name__ == "__main__":
    api = Embed(max_batch_size=BATCH, batch_timeout=WINDOW_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
