"""LiteRT and ONNX Runtime as the benchmarks run them: one thread, outputs and inputs in place. Needs the extra `peers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ai_edge_litert.schema_py_generated as schema
import flatbuffers
import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import ArrayLike, NDArray

from autocompress.errors import UserError

#: Numpy's types and LiteRT's.
_TYPES = {"float32": schema.TensorType.FLOAT32, "int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32}


@dataclass(frozen=True)
class Model:
    """Something ready to run in one runtime: `write()` its input, `run()` it; `read()` gives the output."""

    write: Callable[[], object]
    run: Callable[[], object]
    read: Callable[[], NDArray[Any]]


class TfliteFile:
    """A .tflite file under construction (schema: tensorflow/compiler/mlir/lite/schema/schema.fbs)."""

    def __init__(self) -> None:
        self._model, self._graph = schema.ModelT(), schema.SubGraphT()
        self._model.version, self._model.buffers, self._model.operatorCodes = 3, [schema.BufferT()], []
        self._graph.tensors, self._graph.operators = [], []
        self._codes: dict[tuple[int, int], int] = {}
        self._bytes = 0

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        scale: ArrayLike | None = None,
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        """Append a tensor; return its number.

        Args:
            dtype: `float32`, `int8` or `int32`.
            scale: of integers: one for all of them, or one for each index along `axis`.
        """
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), _TYPES[dtype], 0
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = [float(each) for each in np.atleast_1d(scale)]
            quantization.zeroPoint, quantization.quantizedDimension = [zero_point] * len(quantization.scale), axis
            tensor.quantization = quantization
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def constant(self, name: str, data: NDArray[Any], scale: ArrayLike | None = None, axis: int = 0) -> int:
        """Append a tensor that holds `data`, integers with zero point 0; return its number."""
        number = self.tensor(name, data.shape, data.dtype.name, scale, axis=axis)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data.tobytes(), np.uint8)
        self._graph.tensors[number].buffer = len(self._model.buffers)
        self._model.buffers.append(buffer)
        self._bytes += data.nbytes
        return number

    def op(self, name: str, version: int, inputs: Sequence[int], output: int, options: Any = None) -> None:
        """Append an op of schema.BuiltinOperator; `options` is an object of the schema, as `schema.AddOptionsT()`."""
        builtin = getattr(schema.BuiltinOperator, name)
        if (builtin, version) not in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), version
            self._codes[builtin, version] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(code)
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = self._codes[builtin, version], list(inputs), [output]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            op.builtinOptionsType, op.builtinOptions = getattr(schema.BuiltinOptions, kind), options
        self._graph.operators.append(op)

    def content(self, x: int, y: int) -> bytes:
        """The file, of a network from tensor `x` to tensor `y`."""
        self._graph.inputs, self._graph.outputs, self._model.subgraphs = [x], [y], [self._graph]
        builder = flatbuffers.Builder(self._bytes + 4096)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def litert(content: bytes, x: NDArray[Any]) -> Model:
    """LiteRT's interpreter, which hands a whole network to XNNPACK.

    Args:
        content: a .tflite file.
        x: its input.

    Raises:
        UserError: XNNPACK does not take all of it.
    """
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    # What is delegated stands at the end of the list of ops, each part by itself; anything else would run in slower kernels.
    parts = [op for op in interpreter._get_ops_details() if op["op_name"] == "DELEGATE"]
    if len(parts) != 1 or source not in parts[0]["inputs"] or target not in parts[0]["outputs"]:
        raise UserError("LiteRT does not run all of this with XNNPACK. Install a build of ai-edge-litert that has it.")
    return Model(
        lambda: interpreter.set_tensor(source, x), interpreter.invoke, lambda: np.asarray(interpreter.get_tensor(target))
    )


def onnx_runtime(
    content: bytes,
    x: NDArray[Any],
    shape: Sequence[int],
    level: onnxruntime.GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    settings: Mapping[str, str] | None = None,
    free: Mapping[str, int] | None = None,
) -> Model:
    """A session of ONNX Runtime on the CPU.

    Args:
        content: an .onnx file with one input and one output of the same type.
        x: its input.
        shape: of its output.
        level: of its optimisations.
        settings: entries of the session's configuration.
        free: what the free dimensions of the file are, by name.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    for key, value in (settings or {}).items():
        options.add_session_config_entry(key, value)
    for name, size in (free or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    place, output, binding = np.empty_like(x), np.empty(shape, x.dtype), session.io_binding()
    binding.bind_input(session.get_inputs()[0].name, "cpu", 0, x.dtype.type, x.shape, place.ctypes.data)
    binding.bind_output(session.get_outputs()[0].name, "cpu", 0, x.dtype.type, shape, output.ctypes.data)
    return Model(lambda: np.copyto(place, x), lambda: session.run_with_iobinding(binding), lambda: output)
