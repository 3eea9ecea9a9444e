# transferkit for the processor, with what it needs to serve and to read HEIC, and the sample data:
#   docker build -t transferkit .
#   docker run --rm --network none transferkit finetune sample_data/cats
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
# The builds of torch: "cpu" leaves out CUDA, which takes some gigabytes; empty takes the registry's.
ARG TORCH_BACKEND=cpu
RUN pip install --no-cache-dir uv && uv venv --python "$(command -v python)" /opt/transferkit
ENV VIRTUAL_ENV=/opt/transferkit UV_COMPILE_BYTECODE=1
WORKDIR /source
# The dependencies first, so that a change of the code does not install them again.
COPY pyproject.toml .
RUN uv pip install --no-cache ${TORCH_BACKEND:+--torch-backend "$TORCH_BACKEND"} \
    --extra heif --extra serve -r pyproject.toml
COPY LICENSE README.md ./
COPY transferkit transferkit
RUN uv pip install --no-cache --no-deps .

FROM ${PYTHON}
COPY --from=build /opt/transferkit /opt/transferkit
# Caches are kept in the home folder, which any user of the container must be able to write to.
ENV PATH=/opt/transferkit/bin:$PATH HOME=/tmp
RUN mkdir --mode 1777 /tmp/.cache
# Mount a folder of your own over this one; without one, it is left writable, and has the samples.
WORKDIR /data
RUN chmod 1777 /data
COPY sample_data sample_data
ENTRYPOINT ["transferkit"]
CMD ["--help"]
