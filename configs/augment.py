"""Generated ECGs for the rare classes of a data set, from training records.

  python -m ecgjax.main --mode=generate --config=configs/augment.py \\
    --config.augment.codec=runs/vqvae --config.augment.classes="('LBBB',)" \\
    --workdir=runs/generated
  python -m ecgjax.main --config=configs/supervised.py \\
    --config.data.extra="('runs/generated',)" --workdir=runs/augmented

Writes a TFRecord data set, `generated.json` (what was made, refused and
measured) and `gallery.html` (parents and children on ECG paper). Everything in
it is labelled generated.

Arguments: dataset=synthetic|ptbxl|cinc2021|wfdb_folder, preset=default|smoke,
  operator=
  A            latent mix before quantising (the default)
  B, C, D, E   mix of codes; requantised; blocks of tokens; one cut
  F            latent SMOTE: A among nearest neighbours
  G            A beyond the parents; needs augment.teacher
  reconstruction  the codec alone, a control
  input_smote  aligned interpolation of the signals; needs no codec
  prior        samples of a run of configs/prior.py
  resample     a parent's codes, some drawn again from the prior
  simulator    ecgjax's own simulator, where it knows the class

How many beats mixing adds, and how many it does without alignment:

  ... --config.augment.law=half --config.augment.ratio=0.4
    --config.augment.classes="('NORM','LBBB','RBBB')"
    --config.augment.align=True (or False)

`measures` of `generated.json` then holds R peaks found / the parents' mean.

Rhythm classes (fibrillation, flutter, premature beats, AV block, ...) are not
interpolated; they need prior, resample or simulator.
"""

from ecgjax import config as config_lib
from ecgjax.ecg import leads


def get_config(argument: str | None = None):
  choice = config_lib.parse_argument(
    argument, dataset='synthetic', operator='A', preset='default'
  )
  config = config_lib.common(choice['dataset'])
  config.mode = 'generate'
  config.data.leads = leads.INDEPENDENT_LEADS
  config.data.normalisation = 'none'
  config.augment = config_lib.options('augment')
  config.augment.operator = choice['operator']
  return config_lib.preset(config, choice['preset'], {'smoke': _smoke})


def _smoke(config):
  if config.data.name == 'synthetic':
    config.data.size = 'tiny'
  config.augment.ratio = 0.5
  config.augment.gallery = 1
