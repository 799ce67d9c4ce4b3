"""A trained model on any prepared data set.

  python -m ecgjax.main --mode=eval --config.init_from=runs/lcd \\
    --config=configs/evaluate.py:dataset=ptbxl --workdir=runs/lcd

Restores the whole model, probes its frozen features and those of the same
encoder before training, and scores its classifier on the classes that the two
label spaces share by name. Writes eval_<dataset>.json, .html and .npz into the
work folder, which may be that of the run itself.

Arguments: dataset=synthetic|ptbxl|cinc2021|wfdb_folder|mimic_iv_ecg|code15,
  task=<label task> (default: the data set's own), or one of LCD's downstream
  sets out of CinC 2021: preset=
    cpsc2018  nine classes, source cpsc_2018
    chapman   four groups of rhythms, source chapman_shaoxing
"""

from ecgjax import config as config_lib
from ecgjax.runtime.resolve import choose

_PRESETS = {
  # name: data set, task, sources
  'none': ('', '', ()),
  'cpsc2018': ('cinc2021', 'cpsc9', ('cpsc_2018',)),
  'chapman': ('cinc2021', 'chapman4', ('chapman_shaoxing',)),
}


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, dataset='', task='', preset='none'
  )
  dataset, task, sources = choose('preset', choice['preset'], _PRESETS)
  if dataset and (choice['dataset'] or choice['task']):
    raise ValueError(f'preset={choice["preset"]} says which data set and task')
  dataset = dataset or choice['dataset'] or 'synthetic'
  config = config_lib.common(dataset)
  config.mode = 'eval'
  config.data.task = task or choice['task'] or config.data.task
  config.data.sources = sources
  # Those of the model; a value that differs from it is refused.
  config.data.rate = 0.0
  config.data.length = 0
  config.data.leads = ()
  config.data.normalisation = ''
  config.evaluation = config_lib.options('evaluation')
  return config.lock()
