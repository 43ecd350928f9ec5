// SPDX-License-Identifier: BSD-3-Clause
// Whether memory is kept for its next use. Not under ASan: there each piece comes from the heap, so
// that a use after its end is seen.
#pragma once

namespace nbdkit {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kPooled = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kPooled = false;
#else
constexpr bool kPooled = true;
#endif
#else
constexpr bool kPooled = true;
#endif

}  // namespace nbdkit
