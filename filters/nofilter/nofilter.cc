// SPDX-License-Identifier: BSD-3-Clause
// nofilter: passes everything through. For measuring what a layer costs, and as a place holder.

#include "block/layer.h"
#include "block/native_module.h"

namespace nbdkit {
namespace {

class NofilterLayer final : public FilterLayer {
 public:
  Contract contract() const override {
    return {.survives = Survives::durable,
            .shared_open = true,
            .transparent = true,
            .multi_conn = MultiConn::as_below,
            .swap_fit = true};
  }
  std::string_view long_name() const override { return "nbdkit passthrough filter"; }
};

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_FILTER("nofilter", ::nbdkit::NofilterLayer)
