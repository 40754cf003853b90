// SPDX-License-Identifier: GPL-2.0
/* Namespaces that do not answer Identify with CNS 08h. */
#include "active.h"

int main(int argc, char **argv)
{
	static const struct nt_prog prog = {
		.what = "Test the nodes of namespaces without CNS 08h.",
		.serial = "NVMENG-D",
	};

	return active_main(argc, argv, &prog);
}
