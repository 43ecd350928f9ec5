// SPDX-License-Identifier: BSD-3-Clause
#include "tls/mode.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

TEST(TlsMode, IsATruthOrAWordForMore) {
  for (const char* off : {"off", "0", "no", "FALSE"}) {
    EXPECT_EQ(parse_tls_mode(off).value(), TlsMode::off) << off;
  }
  for (const char* on : {"on", "1", "Yes", "true"}) {
    EXPECT_EQ(parse_tls_mode(on).value(), TlsMode::on) << on;
  }
  for (const char* must : {"require", "Required", "FORCE"}) {
    EXPECT_EQ(parse_tls_mode(must).value(), TlsMode::require) << must;
  }
}

TEST(TlsMode, OtherWordsAreNamed) {
  for (const char* wrong : {"", "perhaps", "requires", "on "}) {
    Result<TlsMode> mode = parse_tls_mode(wrong);
    ASSERT_FALSE(mode.ok()) << wrong;
    EXPECT_EQ(mode.error().detail(), "'" + std::string(wrong) + "' is none of off, on and require");
  }
}

}  // namespace
}  // namespace nbdkit
