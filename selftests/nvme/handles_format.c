// SPDX-License-Identifier: GPL-2.0
/* A block format that Linux refuses. */
#include "active.h"

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test the nodes of namespaces with a refused format.",
		.serial = "NVMENG-E",
	};

	return active_main(argc, argv, &prog);
}
