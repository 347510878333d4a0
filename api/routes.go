package api

import (
	"github.com/prometheus/client_golang/prometheus"
)

// route is one line of the table of all routes: what serves it, and who may use it.
type route struct {
	method string
	path   string // gin's form
	roles  roles
	handle handler
	stream bool // stays open; counted apart from requests
}

// routes is the one table. What is not in it does not exist, and a test walks it to see that every line asks for a token and a role.
func (s *server) routes(measurements *prometheus.Registry) []route {
	all := []route{
		{"GET", "/livez", anybody, live, false},
		{"GET", "/readyz", anybody, ready, false},
		{"GET", "/metrics", anybody, measured(measurements), false},

		{"POST", "/api/auth/login", anybody, login, false},
		{"POST", "/api/auth/token", anybody, refresh, false},
		{"GET", "/api/noauth/userPasswordPolicy", anybody, passwordPolicy, false},
		{"POST", "/api/auth/logout", members, logout, false},
		{"GET", "/api/auth/user", members, currentUser, false},
	}
	all = append(all, callRoutes...)
	all = append(all, deviceRoutes...)
	all = append(all, telemetryRoutes...)
	all = append(all, chainRoutes...)
	if s.dead != nil {
		all = append(all, route{"DELETE", "/api/dead-letters/:id", tenantAdmins, dropDeadLetter, false})
	}
	return all
}

// callRoutes: calls as ThingsBoard has them, and their history. A system administrator passes the role of the POSTs and is refused at the
// device, as in ThingsBoard.
var callRoutes = []route{
	{"POST", "/api/plugins/rpc/oneway/:deviceId", members, callDevice(v1, true), false},
	{"POST", "/api/plugins/rpc/twoway/:deviceId", members, callDevice(v1, false), false},
	{"POST", "/api/rpc/oneway/:deviceId", members, callDevice(v2, true), false},
	{"POST", "/api/rpc/twoway/:deviceId", members, callDevice(v2, false), false},
	{"GET", "/api/rpc/persistent/:rpcId", tenants, getPersistent, false},
	{"GET", "/api/rpc/persistent/device/:deviceId", tenants, listPersistent, false},
	{"DELETE", "/api/rpc/persistent/:rpcId", tenantAdmins, deletePersistent, false},

	{"GET", "/api/rpc/calls", tenants, listCalls, false},
	{"GET", "/api/rpc/calls/:callId", tenants, getCall, false},
	{"GET", "/api/rpc/calls/:callId/events", tenants, getCallEvents, false},
	{"GET", "/api/rpc/calls/:callId/watch", tenants, watchCall, true},
	{"POST", "/api/rpc/calls/:callId/cancel", tenants, cancelCall, false},
	{"GET", "/api/events/stream", tenantAdmins, streamEvents, true},
	{"GET", "/api/dead-letters", tenantAdmins, listDeadLetters, false},
}

// deviceRoutes: devices, credentials and device profiles in ThingsBoard's form.
var deviceRoutes = []route{
	{"POST", "/api/device", tenantAdmins, saveDevice, false},
	{"POST", "/api/device-with-credentials", tenantAdmins, saveDeviceWithCredentials, false},
	{"GET", "/api/device/:deviceId", tenants, getDevice, false},
	{"GET", "/api/device/info/:deviceId", tenants, getDeviceInfo, false},
	{"DELETE", "/api/device/:deviceId", tenantAdmins, deleteDevice, false},
	{"GET", "/api/tenant/devices", tenantAdmins, listDevices, false},
	{"GET", "/api/tenant/device", tenantAdmins, deviceByName, false},
	{"GET", "/api/device/:deviceId/credentials", tenants, getCredentials, false},
	{"POST", "/api/device/credentials", tenantAdmins, saveCredentials, false},

	{"POST", "/api/deviceProfile", tenantAdmins, saveProfile, false},
	{"GET", "/api/deviceProfile/:profileId", tenantAdmins, getProfile, false},
	{"DELETE", "/api/deviceProfile/:profileId", tenantAdmins, deleteProfile, false},
	{"POST", "/api/deviceProfile/:profileId/default", tenantAdmins, makeDefaultProfile, false},
	{"GET", "/api/deviceProfiles", tenantAdmins, listProfiles, false},
	{"GET", "/api/deviceProfileInfos", tenants, listProfileInfos, false},
	{"GET", "/api/deviceProfileInfo/default", tenants, defaultProfileInfo, false},
}

// telemetryRoutes: attributes and latest values of devices. ThingsBoard has each write in an older and a newer form.
var telemetryRoutes = []route{
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/keys/attributes", tenants, getAttributeKeys, false},
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/keys/attributes/:scope", tenants, getAttributeKeys, false},
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/values/attributes", tenants, getAttributes, false},
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/values/attributes/:scope", tenants, getAttributes, false},
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/keys/timeseries", tenants, getLatestKeys, false},
	{"GET", "/api/plugins/telemetry/DEVICE/:deviceId/values/timeseries", tenants, getLatest, false},
	{"POST", "/api/plugins/telemetry/DEVICE/:deviceId/attributes/:scope", tenants, saveAttributes, false},
	{"POST", "/api/plugins/telemetry/DEVICE/:deviceId/:scope", tenants, saveAttributes, false},
	{"POST", "/api/plugins/telemetry/:deviceId/:scope", tenants, saveAttributes, false},
	{"DELETE", "/api/plugins/telemetry/DEVICE/:deviceId/:scope", tenants, deleteAttributes, false},
	{"DELETE", "/api/plugins/telemetry/:deviceId/:scope", tenants, deleteAttributes, false},
}

// chainRoutes: rule chains in Callchain's own form, and the nodes that they are made of.
var chainRoutes = []route{
	{"GET", "/api/nodes", tenantAdmins, listNodes, false},
	{"GET", "/api/chains", tenantAdmins, listChains, false},
	{"POST", "/api/chains", tenantAdmins, createChain, false},
	{"GET", "/api/chains/:chainId", tenantAdmins, getChain, false},
	{"PUT", "/api/chains/:chainId", tenantAdmins, saveChain, false},
	{"DELETE", "/api/chains/:chainId", tenantAdmins, deleteChain, false},
	{"GET", "/api/chains/:chainId/versions", tenantAdmins, listChainVersions, false},
	{"POST", "/api/chains/:chainId/activate", tenantAdmins, activateChain, false},
	{"POST", "/api/chains/:chainId/rollback", tenantAdmins, rollbackChain, false},
	{"POST", "/api/chains/:chainId/root", tenantAdmins, makeRoot, false},
}
