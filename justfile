# the recipes run in the environment that is active, else in ./.venv
export PATH := justfile_directory() / ".venv/bin:" + env("PATH")

# lint, types and tests
default: lint types test

# check style and formatting
lint:
    ruff check .
    ruff format --check .

# mend style and formatting
fix:
    ruff check --fix .
    ruff format .

# strict types of the package
types:
    mypy

# the default test suite
test *arguments:
    python -m pytest -n auto --maxprocesses 4 {{ arguments }}

# the tests that take minutes
slow:
    python -m pytest -m slow

# the default test suite with the lowest version of every package that pyproject.toml allows, in ./.venv-oldest; before a release
oldest *arguments:
    uv venv --clear .venv-oldest
    uv pip install --python .venv-oldest --resolution lowest-direct -e '.[dev]'
    PATH="$PWD/.venv-oldest/bin:$PATH" .venv-oldest/bin/python -m pytest -n auto --maxprocesses 4 {{ arguments }}

# change the mathematics in one place at a time, and list the changes that no test notices; --sample 50 takes minutes
mutants *arguments:
    python -m tests.mutants {{ arguments }}

# on a machine with a CUDA GPU: its tests, then its speed; some minutes in all
cuda:
    python -m pytest -m cuda tests/test_cuda.py
    python -m benchmarks --only cuda

# write docs/cli.md from the program, the tree in docs/architecture.md from the files, and the list of parts
docs:
    python docs/reference.py
    python docs/families.py
    python docs/tree.py

# fail if one of them is stale
docs-check: docs
    git diff --exit-code -- docs/cli.md docs/architecture.md vaectl/config/families.py

# vaectl's speed and memory beside others' and the floor; --help says how to measure a part of it
bench *arguments:
    python -m benchmarks {{ arguments }}

# a 2-D VAE and a 32-D one, their pictures and their comparison, in ./pictures
demo epochs="8":
    mkdir -p pictures
    vaectl train --latent-dim 2 --warmup-epochs 4 --epochs {{ epochs }}
    vaectl plot-latent latest -f -o pictures/latent.png
    vaectl plot-latent latest --kind manifold -f -o pictures/manifold.png
    vaectl sample latest -n 64 -f -o pictures/samples.png
    vaectl sample latest --reconstruct -n 32 -f -o pictures/reconstructions.png
    vaectl train --from latest --latent-dim 32
    vaectl compare latest~1 latest -f -o pictures/compare.html
