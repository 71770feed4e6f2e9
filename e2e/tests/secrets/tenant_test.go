package secrets

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/lightstep-injector/lightstep-injector/e2e/stage"
)

// tenant is somebody who may do everything in one namespace, and label it: what RBAC and the policies let such a one reach.
func (e *environment) tenant(t *testing.T) {
	ctx := t.Context()
	tenant := e.makeTenant(t, "tenant")
	_, err := tenant.CoreV1().Namespaces().Patch(ctx, "tenant", types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"lightstep.com/injection":"enabled"}}}`), metav1.PatchOptions{})
	stage.Check(t, err)
	t.Run("ReachesNothingElse", func(t *testing.T) {
		for _, namespace := range []string{own, copied, ""} {
			_, err := tenant.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{})
			stage.Check(t, refused(err, "cannot list"))
		}
		_, err := tenant.CoreV1().ConfigMaps(own).Patch(ctx, "lightstep-injector", types.MergePatchType, []byte(`{"data":{}}`), metav1.PatchOptions{})
		stage.Check(t, refused(err, "cannot patch"))
		err = tenant.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(ctx, "lightstep-injector-secrets", metav1.DeleteOptions{})
		stage.Check(t, refused(err, "cannot delete"))
		_, err = tenant.CoreV1().ServiceAccounts(own).CreateToken(ctx, accountName, nil, metav1.CreateOptions{})
		stage.Check(t, refused(err, "cannot create"))
	})
	t.Run("IsNotInTheWay", func(t *testing.T) { // of its own Secrets, whatever their names and labels
		for _, secret := range []*corev1.Secret{foreign("tenant", satelliteCA), copyOf("tenant", otherCA), foreign("tenant", "any")} {
			_, err := tenant.CoreV1().Secrets("tenant").Create(ctx, secret, metav1.CreateOptions{})
			stage.Check(t, err)
			stage.Check(t, tenant.CoreV1().Secrets("tenant").Delete(ctx, secret.Name, metav1.DeleteOptions{}))
		}
	})
}

// makeTenant makes a namespace and the client of an account that is its administrator.
func (e *environment) makeTenant(t *testing.T, name string) *kubernetes.Clientset {
	t.Helper()
	ctx, rbac := t.Context(), e.admin.RbacV1()
	e.namespace(t, name, nil)
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: name, Name: "default"}}
	_, err := rbac.RoleBindings(name).Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "tenant"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects:   subjects,
	}, metav1.CreateOptions{})
	stage.Check(t, err)
	_, err = rbac.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "label-" + name},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"namespaces"}, ResourceNames: []string{name}, Verbs: []string{"get", "patch"}}},
	}, metav1.CreateOptions{})
	stage.Check(t, err)
	_, err = rbac.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "label-" + name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "label-" + name},
		Subjects:   subjects,
	}, metav1.CreateOptions{})
	stage.Check(t, err)
	tenant := e.ordinary(t, name)
	stage.Eventually(t, func(ctx context.Context) error { // RBAC is learned of by a watch
		_, err := tenant.CoreV1().Namespaces().Patch(ctx, name, types.MergePatchType, []byte(`{}`), metav1.PatchOptions{})
		return err
	})
	return tenant
}
