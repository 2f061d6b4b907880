"""How the tests have their programs compiled, and how a test has one compiled as users do."""

from importlib import metadata

# Programs run once here: compiling them takes most of the time, running them little. One thread
# is enough for the machine code of a small program.
FAST = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
# Options of jax.jit that undo these: for tests of what the lowering of this backend does to an
# operation.
AS_FOR_USERS = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
if metadata.version("jaxlib").startswith("0.10."):
    # The emitters that later versions have no choice about take twice the time to compile.
    FAST.append("--xla_cpu_use_fusion_emitters=false")
    AS_FOR_USERS["xla_cpu_use_fusion_emitters"] = True

if __name__ == "__main__":
    print(*FAST)
