# The images: `service` (what `docker build .` gives), `service-torch` and `training`; see docs/deploy/container.md.
# Build arguments: PYTHON_IMAGE, another name for Python 3.11; PIP_EXTRA_INDEX_URL, where CPU wheels of torch are; EXTRAS,
# of pyproject.toml, that every image has.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# What serving never imports, below site-packages: tests, sources, converters, and all that tokenizers would download
# with. No distribution goes as a whole (the metadata of each stays), so `pip check` holds: ONNX Runtime asks for protobuf
# and flatbuffers and has them (4 MB), though its import needs neither. FastAPI asks for pydantic.v1, to tell that no model
# is one of its; without it the answer is the same, 1.5 MB of memory are saved, and a fiftieth of the start. ONNX Runtime
# brings itself twice: libonnxruntime.so (29 MB) is for programs in C, Python's own module has all of it inside. wrapt, which
# limits asks for, does the same in Python without its module in C.
ARG UNUSED="_yaml fsspec hf_xet httpcore2 httpx2 huggingface_hub tqdm truststore yaml \
numpy/*/tests numpy/distutils numpy/f2py onnxruntime/capi/libonnxruntime.so.* onnxruntime/datasets \
onnxruntime/quantization onnxruntime/tools onnxruntime/transformers pydantic/v1 simdjson/simdjson.cpp \
simdjson/simdjson.h wrapt/_wrappers.* torch/bin/test_* torch/include torch/share torch/test"

# What pyproject.toml wants, one file for each extra. The layers below hang on these, not on the rest of pyproject.toml.
FROM ${PYTHON_IMAGE} AS wanted
WORKDIR /wanted
COPY pyproject.toml .
RUN python -c "import pathlib, tomllib; \
project = tomllib.loads(pathlib.Path('pyproject.toml').read_text())['project']; \
[pathlib.Path(extra + '.txt').write_text('\n'.join(names)) \
for extra, names in {'service': project['dependencies'], **project['optional-dependencies']}.items()]"

# The libraries, in an environment without a pip of its own. No code of ours: a change of it installs nothing anew.
FROM ${PYTHON_IMAGE} AS libraries
ARG PIP_EXTRA_INDEX_URL
ARG EXTRAS=grpc
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 PIP_PYTHON=/venv/bin/python PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/constraints.txt .
COPY --from=wanted /wanted/*.txt ./
RUN python -m venv --without-pip /venv && cat service.txt > asked.txt \
    && for extra in ${EXTRAS}; do echo >> asked.txt && cat "${extra}.txt" >> asked.txt; done \
    && pip install --no-cache-dir -c constraints.txt -r asked.txt && pip check

FROM libraries AS libraries-torch
COPY --from=wanted /wanted/torch.txt .
RUN pip install --no-cache-dir -c constraints.txt -r torch.txt && pip check

FROM libraries-torch AS libraries-training
COPY --from=wanted /wanted/train.txt .
RUN pip install --no-cache-dir -c constraints.txt -r train.txt && pip check \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x /py312_ /venv

# Compiled here, because the service may not write and would compile every module at each start; never checked against
# the source, because neither changes. torch has one file of Python 3.12's syntax, which nothing here imports.
FROM libraries AS venv
ARG UNUSED
WORKDIR /venv/lib/python3.11/site-packages
RUN rm -rf ${UNUSED} && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /venv

FROM libraries-torch AS venv-torch
ARG UNUSED
WORKDIR /venv/lib/python3.11/site-packages
RUN rm -rf ${UNUSED} && python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x /py312_ /venv

FROM ${PYTHON_IMAGE} AS code
WORKDIR /srv
COPY app app
COPY training training
RUN python -m compileall -q --invalidation-mode unchecked-hash app training

# The base image brings its standard library uncompiled: 8 MB that halve the start.
FROM ${PYTHON_IMAGE} AS runtime
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin zto \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash -x site-packages /usr/local/lib/python3.11
# ONNX Runtime's official wheels report to their maker unless told not to
ENV PATH=/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
WORKDIR /srv
USER 10001:10001

FROM runtime AS training
# matplotlib and torchmetrics want folders for fonts and downloads as they are imported; this one can be written where
# the root cannot
ENV MPLCONFIGDIR=/dev/shm/matplotlib TMPDIR=/dev/shm
COPY --from=libraries-training /venv /venv
COPY models models
COPY --from=code /srv .
ENTRYPOINT ["python", "-m", "training"]
CMD ["list"]

# The models folder is the default, /srv/models, and no variable names it: what a platform mounts is found before it.
# `serve` is a command of its own, as SageMaker runs it, and listens on 8080; so the health check looks there too. The label
# tells SageMaker that several of these containers may share an endpoint, each on a port that it is told. Whoever runs it
# says who may ask: with keys (ZTO_API_KEYS_FILE), or with ZTO_ALLOW_ANONYMOUS=1; without either it does not start.
FROM runtime AS serving
COPY docker/serve /usr/local/bin/serve
ENV ZTO_HOST=0.0.0.0
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true
# gRPC is off until ZTO_GRPC_PORT is set; 8001 is what its clients expect
EXPOSE 8000 8001 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD python -m app health || PORT=8080 python -m app health
CMD ["python", "-m", "app", "serve"]

FROM serving AS service-torch
COPY --from=venv-torch /venv /venv
COPY models models
COPY --from=code /srv/training/__init__.py training/
COPY --from=code /srv/training/architectures training/architectures
COPY --from=code /srv/app app

FROM serving AS service
COPY --from=venv /venv /venv
COPY models models
COPY --from=code /srv/app app
