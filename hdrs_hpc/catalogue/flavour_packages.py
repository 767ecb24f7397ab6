"""What each flavour holds: distributions with versions, and the names that are imported.

Made from the locks of ``deploy/runtimes/`` and of this project by ``make docs``: what is here comes with every
installation, so that a laptop knows it without a clone.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FlavourPackages:
    packages: dict[str, str]
    """Normalised name → version."""
    modules: frozenset[str]


def _held(packages: str, modules: str) -> FlavourPackages:
    return FlavourPackages(dict(word.split("==") for word in packages.split()), frozenset(modules.split()))


HELD: dict[tuple[str, str], FlavourPackages] = {
    ("base", "x86_64"): _held(
        """
        click==8.5.1 cloudpickle==3.1.2 contourpy==1.4.0 cycler==0.12.1 dask==2026.8.0 dask-jobqueue==0.9.0
        distributed==2026.8.0 donfig==0.8.1.post1 fonttools==4.68.0 fsspec==2026.1.0 google-crc32c==1.9.0
        imagecodecs==2026.10.10 imagecodecs-zarr==2026.10.10 jinja2==3.1.6 kiwisolver==1.5.1 locket==1.0.0
        markupsafe==3.0.4 matplotlib==3.11.2 msgpack==1.2.4 msgspec==0.22.0 numcodecs==0.17.1 numpy==2.5.5
        packaging==26.3 pandas==3.1.1 partd==1.4.2 pillow==13.0.0 psutil==7.2.2 pyarrow==26.0.1
        pyparsing==3.3.3 python-dateutil==2.9.0.post0 pyyaml==6.0.3 six==1.17.0 sortedcontainers==2.4.0
        tblib==3.2.2 toolz==1.2.0 tornado==6.6.1 typing-extensions==4.16.0 xarray==2026.9.0 zarr==3.4.2
        zict==3.0.0
        """,
        """
        PIL _yaml click cloudpickle contourpy cycler dask dask_jobqueue dateutil distributed donfig
        fontTools fsspec google_crc32c imagecodecs jinja2 kiwisolver locket markupsafe matplotlib
        mpl_toolkits msgpack msgspec numcodecs numpy packaging pandas partd psutil pyarrow pylab pyparsing
        six sortedcontainers tblib tlz toolz tornado typing_extensions xarray yaml zarr zict
        """,
    ),
    ("base", "aarch64"): _held(
        """
        click==8.5.1 cloudpickle==3.1.2 contourpy==1.4.0 cycler==0.12.1 dask==2026.8.0 dask-jobqueue==0.9.0
        distributed==2026.8.0 donfig==0.8.1.post1 fonttools==4.68.0 fsspec==2026.1.0 google-crc32c==1.9.0
        imagecodecs==2026.10.10 imagecodecs-zarr==2026.10.10 jinja2==3.1.6 kiwisolver==1.5.1 locket==1.0.0
        markupsafe==3.0.4 matplotlib==3.11.2 msgpack==1.2.4 msgspec==0.22.0 numcodecs==0.17.1 numpy==2.5.5
        packaging==26.3 pandas==3.1.1 partd==1.4.2 pillow==13.0.0 psutil==7.2.2 pyarrow==26.0.1
        pyparsing==3.3.3 python-dateutil==2.9.0.post0 pyyaml==6.0.3 six==1.17.0 sortedcontainers==2.4.0
        tblib==3.2.2 toolz==1.2.0 tornado==6.6.1 typing-extensions==4.16.0 xarray==2026.9.0 zarr==3.4.2
        zict==3.0.0
        """,
        """
        PIL _yaml click cloudpickle contourpy cycler dask dask_jobqueue dateutil distributed donfig
        fontTools fsspec google_crc32c imagecodecs jinja2 kiwisolver locket markupsafe matplotlib
        mpl_toolkits msgpack msgspec numcodecs numpy packaging pandas partd psutil pyarrow pylab pyparsing
        six sortedcontainers tblib tlz toolz tornado typing_extensions xarray yaml zarr zict
        """,
    ),
    ("torch", "aarch64-cuda"): _held(
        """
        aiohappyeyeballs==2.7.1 aiohttp==3.14.5 aiosignal==1.4.0 anyio==4.16.0 attrs==26.1.0 click==8.5.1
        cloudpickle==3.1.2 contourpy==1.4.0 cuda-bindings==13.5.0 cuda-pathfinder==1.9.1
        cuda-toolkit==13.2.2 cycler==0.12.1 dask==2026.8.0 dask-jobqueue==0.9.0 distributed==2026.8.0
        donfig==0.8.1.post1 filelock==4.2.11 fonttools==4.68.0 frozenlist==1.8.0 fsspec==2026.1.0
        google-crc32c==1.9.0 h11==0.16.0 hf-xet==1.8.0 httpcore2==2.16.2 httpx2==2.16.2
        huggingface-hub==2.4.0 hydra-core==1.4.0rc1 idna==3.20 imagecodecs==2026.10.10
        imagecodecs-zarr==2026.10.10 imageio==2.38.1 jinja2==3.1.6 joblib==1.6.0 kiwisolver==1.5.1
        lazy-loader==0.6 lightly==1.6.0 lightning-utilities==0.15.3 locket==1.0.0 markupsafe==3.0.4
        matplotlib==3.11.2 monai==1.6.1 mpmath==1.3.0 msgpack==1.2.4 msgspec==0.22.0 multidict==7.2.1
        narwhals==2.29.0 networkx==3.7 nibabel==5.4.2 numcodecs==0.17.1 numpy==2.5.5 nvidia-cublas==13.4.1.3
        nvidia-cuda-cccl==13.3.5.0.6 nvidia-cuda-cupti==13.2.86 nvidia-cuda-nvrtc==13.2.86
        nvidia-cuda-runtime==13.2.86 nvidia-cudnn-cu13==9.26.0.51 nvidia-cufft==12.2.0.57
        nvidia-cufile==1.17.1.22 nvidia-cusolver==12.2.0.11 nvidia-cusparse==12.7.10.12
        nvidia-cusparselt-cu13==0.8.1 nvidia-nccl-cu13==2.30.7 nvidia-nvjitlink==13.5.37
        nvidia-nvshmem-cu13==3.7.2 nvidia-nvtx==13.2.86 omegaconf==2.4.0 packaging==26.3 pandas==3.1.1
        partd==1.4.2 pillow==13.0.0 propcache==0.5.4 psutil==7.2.2 pyarrow==26.0.1 pyparsing==3.3.3
        python-dateutil==2.9.0.post0 pytorch-lightning==2.6.6 pyyaml==6.0.3 safetensors==0.8.0
        scikit-image==0.26.0 scikit-learn==1.9.1 scipy==1.18.1 setuptools==84.2.1 simpleitk==2.5.7
        six==1.17.0 sortedcontainers==2.4.0 sympy==1.14.0 tblib==3.2.2 threadpoolctl==3.8.0
        tifffile==2026.11.8 timm==1.0.31 toolz==1.2.0 torch==2.15.0 torchmetrics==1.9.0 torchvision==0.29.2
        tornado==6.6.1 tqdm==4.70.1 triton==3.9.0 truststore==0.10.5 typing-extensions==4.16.0
        xarray==2026.9.0 yarl==1.25.1 zarr==3.4.2 zict==3.0.0
        """,
        """
        PIL SimpleITK _yaml aiohappyeyeballs aiohttp aiosignal anyio attr click cloudpickle contourpy
        cuda_bindings cuda_pathfinder cuda_toolkit cycler dask dask_jobqueue dateutil distributed donfig
        filelock fontTools frozenlist fsspec google_crc32c h11 hf_xet httpcore2 httpx2 huggingface_hub
        hydra_core idna imagecodecs imageio jinja2 joblib kiwisolver lazy_loader lightly lightning_utilities
        locket markupsafe matplotlib monai mpl_toolkits mpmath msgpack msgspec multidict narwhals networkx
        nibabel numcodecs numpy nvidia_cublas nvidia_cuda_cccl nvidia_cuda_cupti nvidia_cuda_nvrtc
        nvidia_cuda_runtime nvidia_cudnn_cu13 nvidia_cufft nvidia_cufile nvidia_cusolver nvidia_cusparse
        nvidia_cusparselt_cu13 nvidia_nccl_cu13 nvidia_nvjitlink nvidia_nvshmem_cu13 nvidia_nvtx omegaconf
        packaging pandas partd propcache psutil pyarrow pylab pyparsing pytorch_lightning safetensors scipy
        setuptools six skimage sklearn sortedcontainers sympy tblib threadpoolctl tifffile timm tlz toolz
        torch torchmetrics torchvision tornado tqdm triton truststore typing_extensions xarray yaml yarl
        zarr zict
        """,
    ),
    ("torch", "x86_64-cuda"): _held(
        """
        aiohappyeyeballs==2.7.1 aiohttp==3.14.5 aiosignal==1.4.0 anyio==4.16.0 attrs==26.1.0 click==8.5.1
        cloudpickle==3.1.2 contourpy==1.4.0 cuda-bindings==13.5.0 cuda-pathfinder==1.9.1
        cuda-toolkit==13.2.2 cycler==0.12.1 dask==2026.8.0 dask-jobqueue==0.9.0 distributed==2026.8.0
        donfig==0.8.1.post1 einops==0.8.2 filelock==4.2.11 fonttools==4.68.0 frozenlist==1.8.0
        fsspec==2026.1.0 google-crc32c==1.9.0 h11==0.16.0 hf-xet==1.8.0 httpcore2==2.16.2 httpx2==2.16.2
        huggingface-hub==2.4.0 hydra-core==1.4.0rc1 idna==3.20 imagecodecs==2026.10.10
        imagecodecs-zarr==2026.10.10 imageio==2.38.1 jinja2==3.1.6 joblib==1.6.0 kiwisolver==1.5.1
        lazy-loader==0.6 lightly==1.6.0 lightning-utilities==0.15.3 locket==1.0.0 markupsafe==3.0.4
        matplotlib==3.11.2 monai==1.6.1 mpmath==1.3.0 msgpack==1.2.4 msgspec==0.22.0 multidict==7.2.1
        narwhals==2.29.0 networkx==3.7 nibabel==5.4.2 numcodecs==0.17.1 numpy==2.5.5 nvidia-cublas==13.4.1.3
        nvidia-cuda-cccl==13.3.5.0.6 nvidia-cuda-cupti==13.2.86 nvidia-cuda-nvrtc==13.2.86
        nvidia-cuda-runtime==13.2.86 nvidia-cudnn-cu13==9.26.0.51 nvidia-cufft==12.2.0.57
        nvidia-cufile==1.17.1.22 nvidia-cusolver==12.2.0.11 nvidia-cusparse==12.7.10.12
        nvidia-cusparselt-cu13==0.8.1 nvidia-nccl-cu13==2.30.7 nvidia-nvjitlink==13.5.37
        nvidia-nvshmem-cu13==3.7.2 nvidia-nvtx==13.2.86 omegaconf==2.4.0 packaging==26.3 pandas==3.1.1
        partd==1.4.2 pillow==13.0.0 propcache==0.5.4 psutil==7.2.2 pyarrow==26.0.1 pyparsing==3.3.3
        python-dateutil==2.9.0.post0 pytorch-lightning==2.6.6 pyyaml==6.0.3 safetensors==0.8.0
        scikit-image==0.26.0 scikit-learn==1.9.1 scipy==1.18.1 setuptools==84.2.1 simpleitk==2.5.7
        six==1.17.0 sortedcontainers==2.4.0 sympy==1.14.0 tblib==3.2.2 threadpoolctl==3.8.0
        tifffile==2026.11.8 timm==1.0.31 toolz==1.2.0 torch==2.15.0 torchmetrics==1.9.0 torchvision==0.29.2
        tornado==6.6.1 tqdm==4.70.1 triton==3.9.0 truststore==0.10.5 typing-extensions==4.16.0
        xarray==2026.9.0 yarl==1.25.1 zarr==3.4.2 zict==3.0.0
        """,
        """
        PIL SimpleITK _yaml aiohappyeyeballs aiohttp aiosignal anyio attr click cloudpickle contourpy
        cuda_bindings cuda_pathfinder cuda_toolkit cycler dask dask_jobqueue dateutil distributed donfig
        einops filelock fontTools frozenlist fsspec google_crc32c h11 hf_xet httpcore2 httpx2
        huggingface_hub hydra_core idna imagecodecs imageio jinja2 joblib kiwisolver lazy_loader lightly
        lightning_utilities locket markupsafe matplotlib monai mpl_toolkits mpmath msgpack msgspec multidict
        narwhals networkx nibabel numcodecs numpy nvidia_cublas nvidia_cuda_cccl nvidia_cuda_cupti
        nvidia_cuda_nvrtc nvidia_cuda_runtime nvidia_cudnn_cu13 nvidia_cufft nvidia_cufile nvidia_cusolver
        nvidia_cusparse nvidia_cusparselt_cu13 nvidia_nccl_cu13 nvidia_nvjitlink nvidia_nvshmem_cu13
        nvidia_nvtx omegaconf packaging pandas partd propcache psutil pyarrow pylab pyparsing
        pytorch_lightning safetensors scipy setuptools six skimage sklearn sortedcontainers sympy tblib
        threadpoolctl tifffile timm tlz toolz torch torchmetrics torchvision tornado tqdm triton truststore
        typing_extensions xarray yaml yarl zarr zict
        """,
    ),
}
"""By flavour and platform."""
