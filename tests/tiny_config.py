"""A config of seconds, for tests of the real command: `--config=FILE`."""

from configs import supervised


def get_config():
  config = supervised.get_config('model=vit1d,preset=smoke')
  with config.unlocked():
    config.model.kwargs = {'width': 8, 'depth': 1, 'heads': 2, 'patch': 16}
    config.data.length = 64
    config.data.leads = ('II', 'V1')
    config.num_steps = 12
    config.patience = 4
    config.bootstrap_draws = 100
  return config
