#!/usr/bin/env bash
# biosppy 2.2.4: after "pip install biosppy" nothing of it can be imported.
#
# Package: biosppy 2.2.4 from PyPI; CPython 3.11.
# Behaviour: import biosppy ends in ModuleNotFoundError: No module named
#   'peakutils'. The package imports it in its ECG module but does not declare
#   it. With peakutils installed by hand the import works.
# Who cares: every pipeline that lists biosppy as a dependency (pyhrv does) and
#   is set up anew.
# Instead: list peakutils beside biosppy.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile biosppy==2.2.4
if "$work/venv/bin/python" -c 'import biosppy' 2>"$work/said"; then
  echo 'import biosppy works now'
  exit 1
fi
tail -n 1 "$work/said"
grep -q "No module named 'peakutils'" "$work/said"
"$work/venv/bin/pip" install -q --no-compile peakutils==1.3.5
"$work/venv/bin/python" -c 'import biosppy; print("imported with peakutils")'
