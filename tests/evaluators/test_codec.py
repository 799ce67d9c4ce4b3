"""A codec trained for a moment and judged as `main` does it: tiny data."""

import numpy as np
import pytest

from configs import vqvae as vqvae_config
from ecgjax import model, train
from ecgjax.data.batches import run_data, stream
from ecgjax.ecg.contract import to_model_input
from ecgjax.evaluators import codec as codec_lib
from ecgjax.evaluators.run import Run
from ecgjax.metrics import reconstruction

pytestmark = pytest.mark.slow


def on(config, data_dir, **fields):
  config = config.copy_and_resolve_references()
  config.data.dir = data_dir
  config.update({'num_steps': 3, 'eval_every': 3} | fields)
  return config.lock()


@pytest.fixture(scope='module')
def codec(tmp_path_factory, synthetic_dir):
  config = vqvae_config.get_config('preset=smoke')
  config = on(config, synthetic_dir, vqvae={'stages': 2})
  workdir = tmp_path_factory.mktemp('runs') / 'codec'
  return config, workdir, train.train_and_evaluate(config, workdir)


def test_codec_run(codec):
  config, workdir, results = codec
  assert {'prdn', 'r', 'macro_auroc'} <= set(results['metrics'])
  found = results['reconstruction']
  assert found['codebook']['num_codes'] == config.vqvae.size
  assert set(found['per_lead']) >= {'II', 'aVF', 'V6'}
  pair = results['differences']['judge_on_reconstructions-judge']
  low, high = pair['macro_auroc_all']['ci95']
  assert low <= pair['macro_auroc_all']['value'] <= high
  page = (workdir / 'report.html').read_text()
  assert 'Reconstruction' in page and 'synthetic' in page.lower()


def test_perfect_codec_loses_nothing(codec, monkeypatch):
  config, _, _ = codec
  data = run_data.open_data(config.data)
  coder = model.make_untrained(config)
  contract = coder.contract

  def predict(batch):
    ecg = to_model_input(batch, contract)['ecg']
    rest = np.zeros((len(ecg), 125, 1), int)
    return {
      'reconstruction': codec_lib.leads.from_independent(np, ecg),
      'indices': rest,
    }

  blank = lambda indices: np.zeros((len(indices), 1000, 12))
  code = lambda _, split: reconstruction.reconstruct(
    predict, contract, stream.eval_batches(split, model.BATCH_SIZE)
  )
  monkeypatch.setattr(codec_lib, '_code', code)
  run = Run(
    {'model': coder}, data, {}, codec_lib.OPTIONS, config.probe.recipe, 1000
  )
  test = code(coder, data.labelled['test'])
  finding = codec_lib.evaluate_signals(run, test, blank)
  assert finding.metrics['prdn']['value'] == 0
  (stage,) = finding.fields['reconstruction']['codebook']['stages']
  assert stage['prdn'] >= 100
  clean, coded = finding.arms['judge'], finding.arms['judge_on_reconstructions']
  np.testing.assert_array_equal(clean[1], coded[1])
  assert 0 < clean[1].std()  # the judge does see the ECGs


def test_stages(codec):
  config, _, results = codec
  found = results['reconstruction']['codebook']['stages']
  assert len(found) == config.vqvae.stages == 2
  # All stages decoded from their indices are what `predict` gives.
  assert found[-1]['prdn'] == pytest.approx(
    results['metrics']['prdn']['value'], rel=0.05
  )


def test_judge_of_another_length_is_refused(codec, tmp_path):
  config, workdir, _ = codec
  config = config.copy_and_resolve_references()
  config.data.length = 992
  contract = model.make_untrained(config).contract
  with pytest.raises(ValueError, match='config.vqvae.judge: .* 1000 samples'):
    codec_lib.make_judge(str(workdir), contract)


def test_run_on_pages(tmp_path, synthetic_dir):
  config = vqvae_config.get_config('modality=image,preset=smoke')
  config = on(config, synthetic_dir)
  results = train.train_and_evaluate(config, tmp_path)
  metrics = results['metrics']
  assert {'ink_f1', 'page_prdn', 'page_prdn_limit', 'macro_auroc'} <= set(
    metrics
  )
  assert metrics['page_prdn_limit']['value'] < metrics['page_prdn']['value']
  found = results['pages']
  assert found['codebook']['num_codes'] == config.vqvae.size
  assert 'II aVL V2 V5' in found['per_row']
  page = (tmp_path / 'report.html').read_text()
  assert 'Pages' in page and 'synthetic' in page.lower()
