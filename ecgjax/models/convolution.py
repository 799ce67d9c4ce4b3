"""Convolution along time, formulated for what XLA does well on CPU.

`convolve` equals `lax.conv_general_dilated`, values and gradients; elsewhere
than on CPU it is just that. On CPU (measured: `benchmarks/lcd_step.py`)

  - a narrow convolution is a sum over taps and input channels: one vectorised
    loop instead of a matrix product with a nearly empty right-hand side;
  - the kernel's gradient is a convolution in which batch takes the place of
    the input channels, in pieces that stay in the cache from the transposition
    to the product;
  - every convolution is written in the one layout for which XLA calls its fast
    routine; it finds that layout by itself at the top level of a program, but
    not in loops, where the generic loop nest is 30 times slower;
  - `materialise` keeps elementwise work out of the transpositions that remain,
    where XLA would redo it element by element in the wrong memory order.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata

NARROW_INPUTS = 24  # taps times input channels, at most, of a sum over taps
NARROW_OUTPUTS = 16
PIECE_BYTES = 1 << 20  # of the input, in one piece of the kernel's gradient
MAX_PIECES = 32


def _on_cpu() -> bool:
  return jax.default_backend() == 'cpu'


def materialise(function: Callable) -> Callable:
  """Makes `function` a unit of its own for XLA's CPU compiler.

  What goes in and what comes out is written to memory; nothing outside is
  fused into it, nor the other way round. Elsewhere than on CPU it changes
  nothing. (`lax.optimization_barrier` is removed before fusion on CPU.)
  """

  def inside(*args):
    with set_xla_metadata(inlineable=None):  # functions called inside may fuse
      return function(*args)

  @functools.wraps(function)
  def called(*args):
    if not _on_cpu():
      return function(*args)
    with set_xla_metadata(inlineable='false'):
      return jax.jit(inside)(*args)

  return called


def convolve(
  x,
  kernel,
  stride: int = 1,
  dilation: int = 1,
  padding: tuple[int, int] | None = None,
):
  """Cross-correlation along time, as every deep-learning library has it.

  Args:
    x: [B, L, C].
    kernel: [K, C, D], of the same type.
    stride: samples between two outputs.
    dilation: samples between two taps.
    padding: zeros before and after; None pads (K - 1) // 2 * dilation on both
      sides, which keeps the length for an odd K and stride 1.

  Returns:
    [B, T, D], T = (L + sum(padding) - (K - 1) * dilation - 1) // stride + 1.
  """
  if padding is None:
    side = (kernel.shape[0] - 1) // 2 * dilation
    padding = (side, side)
  if _on_cpu():
    return _convolve_cpu(x, kernel, stride, dilation, tuple(padding))
  return _library(x, kernel, stride, dilation, padding)


def _library(x, kernel, stride, dilation, padding, input_dilation=1):
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride,),
    [padding],
    lhs_dilation=(input_dilation,),
    rhs_dilation=(dilation,),
    dimension_numbers=('NWC', 'WIO', 'NWC'),
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve_cpu(x, kernel, stride, dilation, padding):
  taps, inputs, outputs = kernel.shape
  narrow = taps * inputs <= NARROW_INPUTS and outputs <= NARROW_OUTPUTS
  if narrow and stride == dilation == 1:
    return _sum_of_taps(x, kernel, padding)
  return _library(x, kernel, stride, dilation, padding)


def _forward(x, kernel, stride, dilation, padding):
  return _convolve_cpu(x, kernel, stride, dilation, padding), (x, kernel)


def _backward(stride, dilation, padding, residuals, gradient):
  x, kernel = residuals
  return (
    _input_gradient(x, kernel, gradient, stride, dilation, padding),
    _kernel_gradient(x, kernel, gradient, stride, dilation, padding),
  )


_convolve_cpu.defvjp(_forward, _backward)


def _sum_of_taps(x, kernel, padding):
  taps, inputs, _ = kernel.shape
  length = x.shape[1] + sum(padding) - taps + 1

  @materialise
  def sum_of_taps(x, kernel):
    wide = jnp.promote_types(x.dtype, jnp.float32)
    x, kernel = x.astype(wide), kernel.astype(wide)
    x = jnp.pad(x, ((0, 0), padding, (0, 0)))
    return sum(
      x[:, k : k + length, c : c + 1] * kernel[k, c]
      for k in range(taps)
      for c in range(inputs)
    )

  return sum_of_taps(x, kernel).astype(x.dtype)


def _input_gradient(x, kernel, gradient, stride, dilation, padding):
  """[B, T, D] -> [B, L, C]: correlation with the reversed kernel."""
  reversed_kernel = kernel[::-1].swapaxes(1, 2)  # [K, D, C]
  reach = (kernel.shape[0] - 1) * dilation
  before = reach - padding[0]
  spread = (gradient.shape[1] - 1) * stride + 1
  after = x.shape[1] + reach - before - spread
  if stride == 1:
    return _convolve_cpu(
      gradient, reversed_kernel, 1, dilation, (before, after)
    )
  return _library(
    gradient, reversed_kernel, 1, dilation, (before, after), stride
  )


def _kernel_gradient(x, kernel, gradient, stride, dilation, padding):
  """Sum over batch and time of x [B, L, C] times gradient [B, T, D]."""
  taps, before = kernel.shape[0], padding[0]
  spread = (gradient.shape[1] - 1) * stride + 1
  after = (taps - 1) * dilation + spread - x.shape[1] - before

  def piece(x, gradient):
    by_tap = lax.conv_general_dilated(
      x.transpose(2, 1, 0),  # [C, L, B]
      gradient.transpose(1, 0, 2),  # [T, B, D]
      (dilation,),
      [(before, after)],
      rhs_dilation=(stride,),
      dimension_numbers=('NWC', 'WIO', 'NWC'),
    )  # [C, K, D]
    return by_tap.transpose(1, 0, 2)  # [K, C, D]

  rows, pieces = x.shape[0], 1
  while (
    x.nbytes / pieces > PIECE_BYTES
    and pieces < MAX_PIECES
    and rows % (2 * pieces) == 0
  ):
    pieces *= 2
  # Every piece has rows of each device, where the batch is sharded.
  part = lambda a, k: a.reshape(-1, pieces, *a.shape[1:])[:, k]
  return sum(piece(part(x, k), part(gradient, k)) for k in range(pieces))
