// SPDX-License-Identifier: GPL-2.0
/* Every active namespace has its character device. */
#include "active.h"

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test that every active namespace has its node.",
	};

	return active_main(argc, argv, &prog);
}
