// SPDX-License-Identifier: BSD-3-Clause
// What of a parameter may be seen in a message.
#pragma once

#include <string>
#include <string_view>

namespace nbdkit {

// By its name: password, tls-psk, secret-key ... of a parameter, or of a variable (API_TOKEN).
bool is_secret_key(std::string_view key);

// The part of a parameter that may be a secret, by its key (password=...) or because it is a URL
// with a password; empty when there is none. A view of `parameter`.
std::string_view secret_in(std::string_view parameter);

// "key=value", with asterisks in the place of a secret: of the whole value, if the key is one of a
// secret and the value does not only say where it is (-, -FD, +FILE), or of the password in a URL.
std::string shown_parameter(std::string_view key, std::string_view value);

// A URL, with asterisks in the place of the password in it, if there is one.
std::string without_password(std::string_view url);

}  // namespace nbdkit
