#include "kv/model/torch_guard.hh"

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <unistd.h>

#include <new>
#include <stdexcept>
#include <string>
#include <string_view>

namespace kv {
namespace {

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

}  // namespace

void rethrow_torch_exception() {
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    fail(ErrorKind::kDevice, "-: out of memory; use fewer tokens or a smaller dtype");
  } catch (const c10::OutOfMemoryError& error) {
    fail(ErrorKind::kDevice, "-: out of memory: {}; use fewer tokens or a smaller dtype",
         first_line(error.what_without_backtrace()));
  } catch (const c10::Error& error) {
    const std::string text = first_line(error.what_without_backtrace());
    if (text.find("can't allocate memory") != text.npos) {
      fail(ErrorKind::kDevice, "-: out of memory: {}; use fewer tokens or a smaller dtype", text);
    }
    if (text.find("CUDA") != text.npos) {
      fail(ErrorKind::kDevice, "-: {}; --device cpu works without a GPU", text);
    }
    throw std::logic_error("LibTorch: " + text);
  }
}

bool cuda_visible() {
#ifdef KVTOOLS_NO_CUDA
  return false;
#endif
  for (const char* node : {"/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg"}) {
    if (::access(node, F_OK) == 0) return true;
  }
  return false;
}

c10::Device open_cuda() {
#ifdef KVTOOLS_NO_CUDA
  fail(ErrorKind::kDevice, "-: built without CUDA (KVTOOLS_CUDA=OFF); use --device cpu");
#endif
  if (!cuda_visible()) {
    fail(ErrorKind::kDevice, "-: no CUDA device on this machine; use --device cpu");
  }
  if (::dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    fail(ErrorKind::kDevice, "-: LibTorch's CUDA part does not load: {}; use --device cpu",
         ::dlerror());
  }
  return guarded([] {
    const auto& hooks = at::detail::getCUDAHooks();
    if (!hooks.hasCUDA() || hooks.deviceCount() == 0) {
      fail(ErrorKind::kDevice, "-: no usable CUDA device; check nvidia-smi or use --device cpu");
    }
    return c10::Device(c10::DeviceType::CUDA, 0);
  });
}

}  // namespace kv
