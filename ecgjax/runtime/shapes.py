"""Shapes of arrays as types, `Float[Array, 'L C']`, checked in the tests alone.

Letters as everywhere: B records, L samples, C leads, D features, K classes; the
same letter twice in a signature is the same number. Whoever uses the package
needs nothing for it: without jaxtyping these types say nothing.
"""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

Array = jax.Array | np.ndarray

if TYPE_CHECKING:
  from typing import Annotated as Bool
  from typing import Annotated as Float
  from typing import Annotated as Int
  from typing import Annotated as Num
  from typing import Annotated as Shaped
  from typing import Annotated as UInt8
else:
  try:
    from jaxtyping import Bool, Float, Int, Num, Shaped, UInt8
  except ModuleNotFoundError:

    class _Anything:
      def __class_getitem__(cls, shape):
        return Any

    Bool = Float = Int = Num = Shaped = UInt8 = _Anything

__all__ = ['Array', 'Bool', 'Float', 'Int', 'Num', 'Shaped', 'UInt8']
