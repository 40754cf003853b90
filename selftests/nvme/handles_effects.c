// SPDX-License-Identifier: GPL-2.0
/* A command set without a Commands Supported and Effects log. */
#include "active.h"

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test the nodes of namespaces without an effects log.",
		.serial = "NVMENG-C",
	};

	return active_main(argc, argv, &prog);
}
