"""A trained model on any prepared data set.

  python -m ecgjax.main --mode=eval --config.init_from=runs/lcd \\
    --config=configs/evaluate.py:dataset=ptbxl --workdir=runs/lcd

Restores the whole model, probes its frozen features and those of the same
encoder before training, and scores its classifier on the classes that the two
label spaces share by name. Writes eval_<dataset>.json, .html and .npz into the
work folder, which may be that of the run itself.

LCD's own downstream sets out of CinC 2021: dataset=cinc2021,task=cpsc9 with
--config.data.sources="('cpsc_2018',)", and task=chapman4 with
"('chapman_shaoxing',)".

Arguments: dataset=synthetic|ptbxl|cinc2021|wfdb_folder|mimic_iv_ecg|code15,
  task=<label task> (default: the data set's own)
"""

from ecgjax import config as config_lib


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(argument, dataset='synthetic', task='')
  config = config_lib.common(choice['dataset'])
  if choice['task']:
    config.data.task = choice['task']
  # Those of the model; a value that differs from it is refused.
  config.data.rate = 0.0
  config.data.length = 0
  config.data.leads = ()
  config.data.normalisation = ''
  config.evaluation = {
    'reduced_leads': False,  # every lead, every pair: 37 conditions of 8 leads
    'readers_csv': '',  # doctors' labels, see evaluation/readers_table.py
    'attribution': False,  # where the classifier looks
    'ludb_dir': '',  # LUDB's folder, to measure it on delineated waves
    'compare_with': '',  # a run of the same task, e.g. from scratch
  }
  return config.lock()
