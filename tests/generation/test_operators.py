"""What the makers of new ECGs propose, operator by operator."""

import numpy as np
import pytest

from ecgjax.data.batches import split as split_lib
from ecgjax.ecg import leads
from ecgjax.ecg.contract import InputContract
from ecgjax.generation import inputs, operators
from tests import tiny_runs
from tests.generation import beating


@pytest.fixture(scope='module')
def codec(data, tmp_path_factory):
  folder = tmp_path_factory.mktemp('codec')
  tiny_runs.write_codec(folder, data.fingerprint, beating.LENGTH)
  return folder


@pytest.fixture(scope='module')
def prior(data, codec, tmp_path_factory):
  folder = tmp_path_factory.mktemp('prior')
  tiny_runs.write_prior(
    folder, codec, data.fingerprint, len(beating.NAMES), beating.LENGTH
  )
  return folder


def proposals(data, operator, made_for='LBBB', **options):
  """What a maker proposes for the first rows that may be parents."""
  config = beating.make_config(operator, **options)
  contract = InputContract.from_data(config.data)
  models = inputs.restore_models(config.augment, contract, data)
  context, _, _ = inputs.make_context(
    config.augment, contract, config.data.task, data, models
  )
  rows = np.flatnonzero(context.usable)
  first = np.resize(rows, operators.BATCH)
  propose = operators.make_maker(operator, context)
  rng = np.random.Generator(np.random.Philox(5))
  return context, propose(rng, first, made_for), models


def test_latent_mix_of_a_parent_alone_is_its_reconstruction(data, codec):
  """Lambda 1 decodes a's own codes, which the rule of changed codes refuses."""
  context, found, models = proposals(data, 'A', codec=str(codec), law='near')
  assert found.ecg.shape == (operators.BATCH, beating.LENGTH, 12)
  assert set(found.reason) <= {'', 'unchanged', 'rr_ratio'}
  low = found.changed < 0.05
  assert low.any() and (found.reason[low] != '').all()
  assert (found.reason[~low] != 'unchanged').all()
  near = found.changed == 0
  assert near.any()
  codec_lib, params, state = operators.unpack_codec(models['codec'])
  x = context.ecg[found.first[near & (found.weight > 0.9)]]
  _, indices, _ = codec_lib.quantise(state, codec_lib.encode(params, x))
  decoded = codec_lib.decode(params, codec_lib.lookup(state, indices))
  np.testing.assert_allclose(
    found.ecg[near & (found.weight > 0.9)],
    leads.from_independent(np, np.asarray(decoded)),
    atol=1e-5,
  )


def test_codecs_without_a_codebook(data, tmp_path):
  tiny_runs.write_codec(tmp_path, data.fingerprint, beating.LENGTH, 'fsq')
  _, found, _ = proposals(data, 'A', codec=str(tmp_path), law='half')
  assert np.isfinite(found.ecg).all() and (found.changed > 0.05).any()
  with pytest.raises(ValueError, match='B mixes codes of a codebook; with a'):
    proposals(data, 'B', codec=str(tmp_path))


def test_nearest_neighbours_in_the_latent_space(data, codec):
  context, found, models = proposals(data, 'F', codec=str(codec), neighbours=1)
  codec_lib, params, _ = operators.unpack_codec(models['codec'])
  pooled = np.asarray(codec_lib.encode(params, context.ecg)).mean(axis=1)
  pool = context.pool
  for a, b in zip(found.first, found.second):
    others = np.flatnonzero(
      context.usable
      & (pool.groups == pool.groups[a])
      & (pool.patients != pool.patients[a])
    )
    distance = np.linalg.norm(pooled[others] - pooled[a], axis=1)
    assert b == others[distance.argmin()]


def test_reconstruction_is_the_codec_alone(data, codec):
  context, found, models = proposals(data, 'reconstruction', codec=str(codec))
  codec_lib, params, state = operators.unpack_codec(models['codec'])
  x = context.ecg[found.first]
  _, indices, _ = codec_lib.quantise(state, codec_lib.encode(params, x))
  decoded = codec_lib.decode(params, codec_lib.lookup(state, indices))
  np.testing.assert_allclose(
    found.ecg, leads.from_independent(np, np.asarray(decoded)), atol=1e-5
  )
  assert (found.second == -1).all() and (found.reason == '').all()
  assert context.usable.all()  # nothing is interpolated: rhythm is welcome


def test_prior_draws_and_resamples(data, codec, prior):
  _, found, _ = proposals(data, 'prior', prior=str(prior))
  assert (found.first == -1).all() and np.isfinite(found.ecg).all()
  assert len(np.unique(found.ecg[:, :, 0], axis=0)) == operators.BATCH
  context, found, models = proposals(
    data, 'resample', prior=str(prior), keep=0.7, least_changed=0.2
  )
  assert (found.first >= 0).all()
  assert found.weight.mean() == pytest.approx(0.7, abs=0.1)
  assert (found.changed <= 1 - found.weight + 1e-6).all()
  np.testing.assert_array_equal(
    found.reason, np.where(found.changed < 0.2, 'unchanged', '')
  )


def test_simulator_makes_new_patients_with_label_sets_it_knows(
  data, monkeypatch
):
  asked = []
  monkeypatch.setattr(
    operators.simulator,
    'batch',
    lambda *arguments: (asked.append(arguments), (np.zeros(3), None))[1],
  )
  context, found, _ = proposals(data, 'simulator', 'LVH')
  ((_, patients, _, factors, recording),) = asked
  assert (
    len(np.unique(patients)) == operators.BATCH and min(patients) >= 1 << 20
  )
  assert (recording.rate, recording.length) == (100.0, beating.LENGTH)
  templates = context.pool.labels[
    np.resize(np.arange(beating.NUM_TRAIN), operators.BATCH)
  ]
  for labels, template, factor in zip(found.labels, templates, factors):
    names, wanted = (
      {beating.NAMES[k] for k in np.flatnonzero(row)}
      for row in (labels, template)
    )
    # The simulator has LVH alone, and LBBB with AF.
    assert names == ({'LVH'} if wanted == {'LBBB', 'LVH'} else wanted)
    np.testing.assert_array_equal(factor, operators.simulator.factors(*names))


def test_simulator_statements():
  names, factors = operators.simulated('CLBBB', ['SR', 'CLBBB', 'AFIB'])
  assert names == ['CLBBB', 'AFIB']
  np.testing.assert_array_equal(factors, [1, 0, 1, 0, 0, 0, 0])
  assert operators.simulated('LVH', ['LVH', 'IMI', 'PAC'])[0] == ['LVH']
  assert operators.simulated('AFIB', ['AFIB', '1AVB'])[0] == ['AFIB']


def test_teacher_of_the_fold_filters(data, tmp_path):
  teacher = tmp_path / 'teacher'
  config = beating.make_config(teacher=str(teacher))
  own = config.copy_and_resolve_references().unlock()
  own.data.update({'leads': ('II', 'V1'), 'length': 64, 'task': 'all'})
  split = split_lib.open_split(
    data.builder, 'train', **split_lib.arguments(own.data)
  )
  digest = split_lib.fingerprint(split)['sha256']
  tiny_runs.write_classifier(teacher, beating.NAMES, fingerprint=digest)
  contract = InputContract.from_data(config.data)
  models = inputs.restore_models(config.augment, contract, data)
  probability = inputs.make_teacher(models['teacher'])
  ecg = np.zeros((4, beating.LENGTH, 12), np.float32)
  scores = probability(ecg, 'LVH')
  assert scores.shape == (4,) and ((scores > 0) & (scores < 1)).all()
  with pytest.raises(ValueError, match="does not know the class 'x'"):
    probability(ecg, 'x')
