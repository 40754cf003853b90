/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What only the module form has, at the end of its pci.c: which driver runs, and
 * the version of the kernel package that it was made from.  drivers-nvme-host/build
 * writes both into ng-version.h.
 */
#include "ng-version.h"

MODULE_INFO(base, NVME_NG_BASE);

static int __init nvme_ng_init(void)
{
	pr_info(KBUILD_MODNAME ": driver of nvme-ng " NVME_NG_VERSION
		", made from that of " NVME_NG_BASE "\n");
	return nvme_init();
}
module_init(nvme_ng_init);
